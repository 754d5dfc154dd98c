# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What was saved against full data, by hand, and when nothing of it is claimed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from parsed_page import ParsedPage
from report_rows import make_run

from composer_dataagent.report import Run, write_page
from composer_dataagent.report.savings import MOST_LINES, savings

SIZE = 1000


def run(
    selector: str,
    per_epoch: int,
    accuracy: float | None = None,
    *,
    epochs: int = 4,
    seconds: float = 100.0,
    agent: float = 0.0,
    metric: str = "eval/Accuracy",
    egress: tuple[float, float] | None = None,
    num_epochs: int = 4,
    **meta: Any,
) -> Run:
    rows = []
    for epoch in range(epochs):
        seen = per_epoch * (epoch + 1)
        row = {
            "epoch": epoch,
            "epochs": epoch + 1.0,
            "samples_seen": seen,
            "share_of_full": seen / (SIZE * (epoch + 1)),
            "seconds": seconds,
            "agent_seconds": agent,
        }
        if accuracy is not None:
            row["metrics"] = {metric: accuracy}
        if egress is not None:
            row |= {"egress_bytes": egress[0], "egress_requests": 1, "egress_dollars": egress[1]}
        rows.append(row)
    return make_run(selector, rows, num_samples=SIZE, num_epochs=num_epochs, **meta)


def only(runs: list[Run], dollars_per_hour: float | None = None) -> str:
    (saving,) = savings(runs, dollars_per_hour)
    return f"{saving.against}: {saving.text}"


def test_measured_with_the_agents_overhead_on_its_side_only() -> None:
    # Of full data's 100 s an epoch, 20 s are our bookkeeping's; the agent's 10 s are its own cost.
    full = run("full", 1000, 0.90, seconds=100, agent=20, egress=(5e9, 0.25))
    agent = run("data_agent", 540, 0.903, seconds=48, agent=10, egress=(2e9, 0.10))
    expected = (
        "against full data: 46 % fewer samples trained, 40 % less time, 12 GB and $0.60 less "
        "fetched, 0.3 points better (one seed each)"
    )
    assert only([agent, full]) == expected
    # (4 x 80 s - 4 x 48 s) of $90 an hour
    assert "40 % less time ($3.20 less), 12 GB and $0.60 less fetched, $3.80 less in all, 0.3" in (
        only([full, agent], 90.0)
    )


def test_what_is_worse_is_said_as_well() -> None:
    full = run("full", 1000, 0.90, seconds=50, egress=(1e9, 0.5))
    agent = run("data_agent", 500, 0.85, seconds=60, agent=40, egress=(2e9, 0.4))
    assert only([full, agent], 36.0) == (
        "against full data: 50 % fewer samples trained, 20 % more time ($0.40 more), 4 GB more "
        "fetched, for $0.40 less, $0.00 less in all, 5.0 points worse (one seed each)"
    )


@pytest.mark.parametrize(
    ("metric", "values", "said"),
    [
        ("eval/Accuracy", (0.9, 0.9), "equally good (one seed each)"),
        ("eval/CrossEntropy", (2.26, 2.0), "CrossEntropy 0.26 worse (one seed each)"),
        ("eval/CrossEntropy", (1.5, 2.0), "CrossEntropy 0.5 better (one seed each)"),
        ("eval/Taste", (1.5, 2.0), "Taste 0.5 lower (one seed each)"),
        ("eval/Taste", (2.0, 2.0), "equal Taste (one seed each)"),
    ],
)
def test_metrics_of_other_kinds(metric: str, values: tuple[float, float], said: str) -> None:
    mine, whole = values
    told = only(
        [run("full", 1000, whole, metric=metric), run("data_agent", 500, mine, metric=metric)]
    )
    assert told.endswith(f", {said}")


def test_how_much_seeds_differ() -> None:
    runs = [run("full", 1000, accuracy, seed=seed) for seed, accuracy in enumerate((0.8, 0.9))]
    runs += [run("data_agent", 500, 0.95, seed=0)]
    assert only(runs).endswith("10.0 points better (seeds differ by ± 7.1)")


def test_without_full_data_it_is_an_estimate_by_the_runs_own_counts() -> None:
    agent = run("data_agent", 500, 0.9, seconds=60, agent=10, egress=(2e9, 0.1))
    # 50 s for 500 samples: 1000 would take 100 s.
    told = "against full data, as estimated: 50 % fewer samples trained, 40 % less time"
    assert only([agent]) == told
    elsewhere = make_run("full", run("full", 1000, 0.9).rows, num_samples=7)  # other data
    assert only([agent, elsewhere]) == told


def test_full_data_of_the_nearest_settings() -> None:
    def of(selector: str, per_epoch: int, rate: float) -> Run:
        made = run(selector, per_epoch)
        return Run(made.path, made.meta, made.rows, recipe={"optimizer": {"lr": rate}})

    runs = [of("full", 1000, 0.1), of("full", 800, 0.2), of("data_agent", 400, 0.2)]
    assert "50 % fewer" in only(runs)


def test_runs_that_go_on_are_compared_up_to_the_same_epoch() -> None:
    full, agent = run("full", 1000, 0.9, epochs=4), run("data_agent", 500, 0.8, epochs=2)
    told = only([full, agent])
    assert told.startswith("against full data, after 2 epochs: 50 % fewer samples trained, as much")
    nothing = run("full", 1000, epochs=0)
    assert "as estimated" in only([nothing, agent])
    assert savings([run("data_agent", 500, epochs=0), full]) == []


def test_full_data_of_another_length_is_named() -> None:
    short = run("full", 1000, 0.9, epochs=2, num_epochs=2)
    told = only([short, run("data_agent", 500, 0.9)])
    assert told.startswith(
        "against full data (2 epochs of it, 4 here): as many samples trained, 100 % more time"
    )


def test_of_whom_it_is_said() -> None:
    runs = [run("full", 1000), run("random", 500), run("data_agent", 500)]
    assert [each.label for each in savings(runs)] == ["data_agent"]
    assert [each.label for each in savings(runs[:2])] == ["random"]
    assert savings(runs[:1]) == [] and savings([]) == []
    many = [run("data_agent", 500, ratio=ratio / 100) for ratio in range(10, 30)]
    assert len(savings(many)) == MOST_LINES


def test_rows_that_tell_less() -> None:
    agent = make_run("data_agent", [{"epoch": 0, "seconds": None, "share_of_full": 0}])
    assert savings([agent]) == []
    old = make_run("data_agent", [{"epoch": 0, "samples_seen": 500}], num_samples=SIZE)
    assert savings([old]) == []
    assert only([old, run("full", 1000, epochs=1, num_epochs=1)]) == (
        "against full data: 50 % fewer samples trained"
    )


def test_the_page_says_it_at_its_top_and_how_it_is_meant(tmp_path: Path) -> None:
    runs = [run("full", 1000, 0.9), run("data_agent", 500, 0.9)]
    page = ParsedPage(write_page(runs, tmp_path / "page.html", dollars_per_hour=2.5))
    assert page.texts["p"][1].startswith("data_agent against full data: 50 % fewer samples")
    assert "of full data without" in page.texts["p"][2] and "at $2.50" in page.texts["p"][2]
    page = ParsedPage(write_page(runs[1:], tmp_path / "page.html"))
    assert "as estimated: 50 % fewer" in page.texts["p"][1]
    assert "No run on all of the same data is there to compare with" in page.texts["p"][2]
    page = ParsedPage(write_page(runs[:1], tmp_path / "page.html"))
    assert not any("against full data" in text for text in page.texts["p"])
