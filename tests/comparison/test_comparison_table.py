# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the tables say of rows."""

from __future__ import annotations

import pytest
from comparison.table import best_rule, difference_to, groups_of, with_mean


def row(condition: str, selector: str, seed: int, accuracy: float) -> dict[str, object]:
    key = {"source": "digits", "ratio": 0.5, "condition": condition}
    return key | {"selector": selector, "seed": seed, "accuracy": accuracy}


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
    assert best_rule(conditions["clean"]) == "loss"
    mean = with_mean(conditions)["mean"]
    assert best_rule(mean) == "random"  # the other was not run on all conditions
    found = difference_to(mean, "data_agent", "random")
    assert found is not None and found.seeds == 2
    assert found.mean == pytest.approx(4)  # points
    assert found.low == pytest.approx(2) and found.high == pytest.approx(6)
    # One condition is its own mean.
    assert list(with_mean({"clean": conditions["clean"]})) == ["clean"]
