# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the tables say of rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from compare import origin_of
from comparison.table import best_rule, difference_to, groups_of, to_markdown, with_mean


def row(condition: str, selector: str, seed: int, accuracy: float) -> dict[str, object]:
    key = {"source": "digits", "ratio": 0.5, "condition": condition}
    of_run = dict.fromkeys(
        ("share", "cost", "overhead", "coverage", "wrong", "wrong_selected"), 0.0
    )
    own = {"selector": selector, "seed": seed, "accuracy": accuracy, "churn": None}
    return key | of_run | own


def test_the_mean_over_conditions_is_paired_by_seed() -> None:
    rows = [
        row("clean", "random", 0, 0.90),
        row("clean", "random", 1, 0.80),
        row("clean", "loss", 0, 0.95),
        row("clean", "data_agent", 0, 0.92),
        row("clean", "data_agent", 1, 0.84),
        row("noise40", "random", 0, 0.70),
        row("noise40", "random", 1, 0.50),
        row("noise40", "data_agent", 0, 0.72),
        row("noise40", "data_agent", 1, 0.58),
    ]
    ((_, _, conditions),) = groups_of(rows)
    assert best_rule(conditions["clean"]) == ("loss", 1)
    mean = with_mean(conditions)["mean"]
    assert best_rule(mean) == ("random", 2)  # the other was not run on all conditions
    found = difference_to(mean, "data_agent", "random")
    assert found is not None and found.seeds == 2
    assert found.mean == pytest.approx(4)  # points
    assert found.low == pytest.approx(2) and found.high == pytest.approx(6)
    # One condition is its own mean.
    assert list(with_mean({"clean": conditions["clean"]})) == ["clean"]


def test_the_shards_that_were_touched_are_told_where_they_are_known() -> None:
    rows = [row("clean", "random", 0, 0.5), row("clean", "loss", 0, 0.6)]
    rows[0]["shards_touched"] = 0.655  # older rows have none
    text = to_markdown(rows)
    assert "| churn | shards touched |" in text
    assert "| 65.5 % |" in text


def test_rules_are_compared_over_the_seeds_that_all_have() -> None:
    rows = [
        row("clean", "random", 0, 0.50),
        row("clean", "random", 1, 0.90),
        row("clean", "entropy", 0, 0.60),  # its only seed is a hard one
        row("clean", "data_agent", 0, 0.70),
        row("clean", "data_agent", 1, 0.95),
    ]
    assert best_rule(rows) == ("entropy", 1)
    assert "| +10.00 (1 seed) | entropy (1) |" in to_markdown(rows)
    apart = [row("clean", "random", 0, 0.5), row("clean", "entropy", 1, 0.6)]
    assert best_rule(apart) == (None, 0)
    assert best_rule([row("clean", "data_agent", 0, 0.7)]) == (None, 0)


def test_the_mean_of_a_table_is_of_seeds_that_have_all_conditions() -> None:
    rows = [
        row("clean", "random", 0, 0.50),
        row("clean", "random", 1, 0.90),
        row("noise40", "random", 0, 0.40),
    ]
    assert "| random | 70.00 ± 28.28 (2) | 40.00 (1) | 45.00 (1) |" in to_markdown(rows)


def test_where_the_rows_are_from_is_said_in_full() -> None:
    rows = [row("clean", name, seed, 0.5) for name in ("random", "loss") for seed in range(2)]
    out = Path("tools", "results", "some of them.jsonl")
    command = (
        "python tools/compare.py --sources digits --conditions clean --selectors random,loss "
        f"--ratios 0.5 --seeds 2 --out '{out}'"
    )
    assert origin_of(rows, out) == f"Made by `{command}`"
    assert origin_of(rows[:3], out) == (
        f"3 of the 4 runs that `{command}` makes; the others were not made."
    )
