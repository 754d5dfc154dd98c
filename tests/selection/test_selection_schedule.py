# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The ratio over the course of training, and what it costs."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from composer_dataagent.selection import RatioSchedule, size_for


def ratios(schedule: RatioSchedule, epochs: int) -> list[float]:
    return [schedule(epoch, epoch / epochs) for epoch in range(epochs)]


def test_warm_up_then_the_ratio_then_full_epochs() -> None:
    assert ratios(RatioSchedule(0.3), 5) == [1, 0.3, 0.3, 0.3, 0.3]
    schedule = RatioSchedule(0.5, warmup_epochs=2, anneal=0.25)
    assert ratios(schedule, 8) == [1, 1, 0.5, 0.5, 0.5, 0.5, 1, 1]
    assert ratios(RatioSchedule(0.5, warmup_epochs=0), 2) == [0.5, 0.5]
    assert ratios(RatioSchedule(0.5, warmup_epochs=9), 3) == [1, 1, 1]
    assert ratios(RatioSchedule(1.0), 3) == [1, 1, 1]


@given(
    epochs=st.integers(1, 300),
    percent=st.integers(1, 100),
    warmup=st.integers(0, 20),
    anneal=st.integers(0, 99),
)
# 1 - 0.7 is a little more than 3 / 10 in floating point, and 1 - 0.95 than 1 / 20.
@example(epochs=10, percent=50, warmup=1, anneal=70)
@example(epochs=20, percent=50, warmup=0, anneal=95)
def test_the_cost_is_what_the_method_card_says(
    epochs: int, percent: int, warmup: int, anneal: int
) -> None:
    ratio = percent / 100
    served = ratios(RatioSchedule(ratio, warmup, anneal / 100), epochs)
    # In whole numbers: the share must not lose an epoch to rounding.
    full = min(epochs, warmup + anneal * epochs // 100)
    assert sum(served) == pytest.approx(full + ratio * (epochs - full))
    assert set(served) <= {1.0, ratio}


@given(ratio=st.floats(0.001, 1), samples=st.integers(1, 10_000_000))
def test_the_size_is_the_rounded_share(ratio: float, samples: int) -> None:
    size = size_for(ratio, samples)
    assert 1 <= size <= samples
    assert abs(size - ratio * samples) <= 0.5 + 1e-6 or size == 1


def test_sizes_round_half_up_and_are_never_zero() -> None:
    assert [size_for(0.5, n) for n in (1, 2, 3, 5, 10)] == [1, 1, 2, 3, 5]
    assert size_for(0.001, 10) == 1
    assert size_for(1.0, 7) == 7


@pytest.mark.parametrize(
    "bad",
    [
        {"ratio": 0.0},
        {"ratio": 1.01},
        {"ratio": float("nan")},
        {"warmup_epochs": -1},
        {"warmup_epochs": 1.5},
        {"anneal": -0.1},
        {"anneal": 1.0},
    ],
    ids=str,
)
def test_a_bad_argument_is_named(bad: dict[str, Any]) -> None:
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"{name}={value} is not accepted; it must be"):
        RatioSchedule(**bad)


def test_a_schedule_cannot_change_behind_a_run() -> None:
    with pytest.raises(FrozenInstanceError):
        RatioSchedule().ratio = 0.9  # type: ignore[misc]
