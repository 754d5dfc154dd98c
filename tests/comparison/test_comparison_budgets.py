# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""All methods of a comparison train on as many samples; differences are paired by seed."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from comparison.methods import METHODS, budget_of, settings_of
from comparison.statistics import paired_difference
from hypothesis import given
from hypothesis import strategies as st

from composer_dataagent.presets import PRESETS
from composer_dataagent.selection.schedule import RatioSchedule, size_for


@given(
    num_samples=st.integers(500, 100_000),
    epochs=st.integers(4, 40),
    batch_size=st.integers(1, 64),
    ratio=st.floats(0.3, 1),
)
def test_every_method_spends_the_budget(
    num_samples: int, epochs: int, batch_size: int, ratio: float
) -> None:
    budget = budget_of(num_samples, epochs, ratio)
    for name, method in METHODS.items():
        settings = settings_of(method, num_samples, epochs, batch_size, ratio)
        length = settings["max_duration"]
        if name == "full":
            assert (length, settings["samples"]) == (f"{epochs}ep", epochs * num_samples)
        elif name == "short":
            whole, rest = divmod(int(length[:-2]), ceil(num_samples / batch_size))
            assert abs(whole * num_samples + rest * batch_size - budget) <= batch_size
        else:
            preset = PRESETS[method.agent.get("preset", "default")]
            schedule = RatioSchedule(
                settings["agent"]["ratio"], preset.warmup_epochs, preset.anneal
            )
            sizes = [size_for(schedule(e, e / epochs), num_samples) for e in range(epochs)]
            assert abs(sum(sizes) - budget) <= epochs, name


def test_a_budget_that_full_epochs_use_up() -> None:
    with pytest.raises(ValueError, match=r"ratio=0\.01 .* 3 on all of the data: give a larger"):
        settings_of(METHODS["paper"], 1_000, 16, 10, 0.01)


def test_differences_are_of_the_same_seed() -> None:
    theirs = {seed: float(seed) for seed in range(6)}
    ours = {seed: seed + 0.5 for seed in range(1, 9)}
    found = paired_difference(ours, theirs)
    assert found is not None and found.seeds == 5
    assert found.mean == found.low == found.high == 0.5
    assert paired_difference({1: 0.0}, {2: 0.0}) is None


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        found = paired_difference(
            dict(enumerate(rng.normal(1, 1, 20))), dict.fromkeys(range(20), 0)
        )
        assert found is not None
        held += found.low <= 1 <= found.high
    assert 175 <= held <= 200
