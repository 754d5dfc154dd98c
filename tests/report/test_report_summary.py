# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The numbers of the table, by hand, and how they are written."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from report_rows import make_run
from rich.console import Console

from composer_dataagent.report import Run, summarise, wording
from composer_dataagent.report.summary import group_runs, main_metric
from composer_dataagent.report.table import print_table, table_cells

UNFETCHED = {"fetched": None, "requests": None, "dollars": None}


def row(epoch: int, accuracy: float | None, **facts: Any) -> dict[str, Any]:
    metrics = {} if accuracy is None else {"metrics": {"eval/Loss": 9.0, "eval/Accuracy": accuracy}}
    return {"epoch": epoch, "seconds": 10.0, "agent_seconds": 0.5, **metrics, **facts}


def test_by_hand() -> None:
    full = make_run("full", [row(0, 0.8, samples_seen=100, share_of_full=1.0)] * 2)
    one = make_run(
        "data_agent",
        [
            row(0, 0.5, samples_seen=100, share_of_full=1.0),
            row(1, 0.7, samples_seen=150, share_of_full=0.75),
        ],
        seed=0,
    )
    two = make_run(
        "data_agent",
        [
            row(0, 0.9, samples_seen=100, share_of_full=1.0),
            row(1, None, samples_seen=130, share_of_full=0.65, seconds=20.0, agent_seconds=2.5),
        ],
        seed=1,
    )
    assert summarise([one, full, two]) == [
        {
            "selector": "data_agent",
            "seeds": 2,
            "runs": 2,
            "metric": "eval/Accuracy",
            "accuracy": pytest.approx(0.8),
            "accuracy_std": pytest.approx(0.02**0.5),
            "difference": pytest.approx(0.0),
            "samples": 140.0,
            "looked": None,
            "share_of_full": pytest.approx(0.7),
            **UNFETCHED,
            "seconds": 25.0,
            "overhead": pytest.approx(4.0 / 50.0),
        },
        {
            "selector": "full",
            "seeds": 1,
            "runs": 1,
            "metric": "eval/Accuracy",
            "accuracy": pytest.approx(0.8),
            "accuracy_std": None,
            "difference": pytest.approx(0.0),
            "samples": 100.0,
            "looked": None,
            "share_of_full": 1.0,
            **UNFETCHED,
            "seconds": 20.0,
            "overhead": pytest.approx(0.05),
        },
    ]


def test_without_metrics_and_without_rows() -> None:
    (summary,) = summarise([make_run("random", [row(0, None, samples_seen=7)])])
    assert summary["accuracy"] is summary["metric"] is summary["difference"] is None
    assert summary["samples"] == 7.0
    (summary,) = summarise([make_run("random", [])])
    assert summary["seeds"] == 1
    unknown = ("accuracy", "accuracy_std", "samples", "share_of_full", "seconds", "overhead")
    assert all(summary[name] is None for name in unknown)
    assert summarise([]) == []


def test_a_final_accuracy_that_was_not_a_number_is_unknown() -> None:
    rows = [row(0, 0.5), {"epoch": 1, "metrics": {"eval/Accuracy": None}}]
    assert summarise([make_run("random", rows)])[0]["accuracy"] is None


def test_runs_of_other_settings_are_not_averaged() -> None:
    runs = [make_run("random", [], ratio=0.3), make_run("random", [], ratio=0.5, seed=1)]
    runs += [make_run("random", [], ratio=0.3, seed=2), make_run("full", [], ratio=0.7)]
    groups = group_runs(runs)
    assert list(groups) == ["random, ratio 0.3", "random, ratio 0.5", "full"]
    assert [len(group) for group in groups.values()] == [2, 1, 1]


def test_the_same_seed_twice_is_one_seed() -> None:
    accuracies = {0: [0.6, 0.8], 1: [0.9]}
    runs = [
        make_run("random", [row(0, accuracy, samples_seen=100 * (1 + seed))], seed=seed)
        for seed, several in accuracies.items()
        for accuracy in several
    ]
    (summary,) = summarise(runs)
    assert (summary["seeds"], summary["runs"]) == (2, 3)
    assert summary["accuracy"] == pytest.approx(0.8)  # of 0.7 and 0.9
    assert summary["accuracy_std"] == pytest.approx(0.02**0.5)
    assert summary["samples"] == pytest.approx(150)
    assert table_cells([summary])[0]["Seeds"] == "2 (3 runs)"
    assert summarise(runs[:2])[0]["accuracy_std"] is None
    # The recipe's seed and the agent's may differ.
    again = [make_run("random", [], seed=0, recipe={"seed": seed}) for seed in (0, 1, 1)]
    assert summarise(again)[0]["seeds"] == 2


def test_the_difference_is_to_the_full_run_of_the_same_settings() -> None:
    def run(selector: str, accuracy: float, rate: float) -> Run:
        return make_run(selector, [row(0, accuracy)], recipe={"optimizer": {"lr": rate}})

    runs = [run("full", 0.8, 0.1), run("full", 0.9, 0.2), run("random", 0.7, 0.1)]
    runs += [run("random", 0.6, 0.2), run("random", 0.5, 0.3)]
    differences = [summary["difference"] for summary in summarise(runs)]
    assert differences == pytest.approx([0.0, 0.0, -0.1, -0.3, -0.3])  # of equals the first


def test_the_main_metric() -> None:
    def run(*names: str) -> Any:
        return make_run("random", [{"epoch": 0, "metrics": dict.fromkeys(names, 1.0)}])

    assert main_metric([run("eval/Loss", "eval/MulticlassAccuracy")]) == "eval/MulticlassAccuracy"
    assert main_metric([run("eval/Loss"), run("eval/Other")]) == "eval/Loss"
    assert main_metric([run()]) is None


def test_the_printed_table() -> None:
    console = Console(file=io.StringIO(), width=200)
    rows = [row(0, 0.75, samples_seen=1200, share_of_full=1.0)]
    print_table([make_run("full", rows), make_run("[red]mine", [])], console)
    assert isinstance(console.file, io.StringIO)
    *head, full, mine = console.file.getvalue().splitlines()
    assert "Accuracy" in "".join(head) and "Samples" in "".join(head)
    dash = wording.UNKNOWN
    assert [re.split(r"  +", line.strip()) for line in (full, mine)] == [
        ["full", "75.0 %", "0.0 points", "1,200", "100.0 %", "10 s", "5.0 %", "1"],
        ["[red]mine", *[dash] * 6, "1"],
    ]


WIDE = [row(0, 0.75, samples_seen=1_234_567, share_of_full=1.0, seconds=40_000)]
COMPARED = [
    make_run("full", WIDE, seed=0),
    make_run("data_agent", WIDE, recipe={"optimizer": {"lr": 0.003}}, seed=0),
    make_run("data_agent", WIDE, recipe={"optimizer": {"lr": 0.01}}, seed=0),
    make_run("data_agent", WIDE, recipe={"optimizer": {"lr": 0.01}}, seed=1),
]
NUMBERS = ["75.0 %", "0.0 points", "1,234,567", "100.0 %", "11 h 6 min", "0.0 %", "1"]
SEVERAL = ["75.0 % ± 0.0", *NUMBERS[1:-1], "2"]
LABELS = ["full", "data_agent, optimizer.lr 0.003", "data_agent, optimizer.lr 0.01"]


def printed(runs: list[Run], width: int, terminal: bool) -> list[list[str]]:
    """Cells of every printed line."""
    file = io.StringIO()
    print_table(runs, Console(file=file, width=width, force_terminal=terminal, color_system=None))
    lines = file.getvalue().splitlines()
    assert not terminal or max(map(len, lines)) <= width
    return [re.split(r"  +", line.strip()) for line in lines]


@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_row_is_one_whole_line_where_there_is_no_terminal(width: int) -> None:
    rows = printed(COMPARED, width, terminal=False)[-3:]
    numbers = [NUMBERS, NUMBERS, SEVERAL]
    assert rows == [[label, *cells] for label, cells in zip(LABELS, numbers, strict=True)]


def test_in_a_narrow_terminal_labels_stand_above_their_numbers() -> None:
    rows = printed(COMPARED, 80, terminal=True)[-6:]
    assert rows == [[LABELS[0]], NUMBERS, [LABELS[1]], NUMBERS, [LABELS[2]], SEVERAL]
    assert printed(COMPARED, 120, terminal=True) == printed(COMPARED, 120, terminal=False)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (wording.percent(0.9831), "98.3 %"),
        (wording.percent(None), wording.UNKNOWN),
        (wording.count(12345.4), "12,345"),
        (wording.count(float("nan")), wording.UNKNOWN),
        (wording.duration(0.26), "0.3 s"),
        (wording.duration(9.96), "10 s"),
        (wording.duration(59.6), "1 min 0 s"),
        (wording.duration(72.3), "1 min 12 s"),
        (wording.duration(3661), "1 h 1 min"),
        (wording.duration(None), wording.UNKNOWN),
        (wording.size(0), "0 B"),
        (wording.size(812), "812 B"),
        (wording.size(12_345), "12.3 kB"),
        (wording.size(999_960), "1 MB"),
        (wording.size(45.6e6), "45.6 MB"),
        (wording.size(1.28e9), "1.28 GB"),
        (wording.size(2_345e12), "2.35 PB"),
        (wording.size(None), wording.UNKNOWN),
        (wording.dollars(0), "$0.00"),
        (wording.dollars(1234.567), "$1,235"),
        (wording.dollars(0.12), "$0.12"),
        (wording.dollars(0.0995), "$0.10"),
        (wording.dollars(0.01234), "$0.012"),
        (wording.dollars(0.00012), "$0.00012"),
        (wording.dollars(3e-7), "under $0.0001"),
        (wording.dollars(float("nan")), wording.UNKNOWN),
        (wording.metric(0.5, "eval/BinaryAccuracy"), "50.0 %"),
        (wording.metric(2.34567, "eval/CrossEntropy"), "2.346"),
        (wording.difference(0.0041, "Accuracy"), "+0.4 points"),
        (wording.difference(-0.0141, "Accuracy"), "\N{MINUS SIGN}1.4 points"),
        (wording.difference(-0.0001, "Accuracy"), "0.0 points"),
        (wording.difference(0.0, "Loss"), "0"),
        (wording.difference(0.25, "Loss"), "+0.25"),
        (wording.spread(0.0021, "Accuracy"), "± 0.2"),
        (wording.spread(None, "Accuracy"), ""),
        (wording.short("a\nb \x00 \ud800 c" + "d" * 9, 9), "a b cddd…"),
    ],
)
def test_numbers_as_people_write_them(written: str, expected: str) -> None:
    assert written == expected
