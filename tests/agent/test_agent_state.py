# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The nine numbers that describe a sample."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from composer_dataagent.agent import SIGNAL_STATE_DIM, signal_state


def columns(**changed: Any) -> dict[str, torch.Tensor]:
    probability = torch.tensor([0.5, 0.1, 0.001])
    return {
        "loss": -probability.log(),
        "entropy": torch.tensor([0.2, 0.3, 0.9]),
        "max_prob": torch.tensor([0.5, 0.8, 0.4]),
        "agreement": torch.tensor([1.0, 0.6, 0.1]),
        "log_class_freq": torch.tensor([-2.0, -1.0, 0.0]),
    } | changed


def test_the_numbers_in_their_order() -> None:
    state = signal_state(**columns(), progress=0.25)
    assert state.shape == (3, SIGNAL_STATE_DIM) and state.dtype == torch.float32

    def log_odds(p: float) -> float:
        return math.log(p / (1 - p)) / 4

    def log(p: float) -> float:
        return math.log(p) / 4

    odds = [log_odds(p) for p in (0.5, 0.5, 0.2, 0.1, 0.8, 0.3, 0.001, 0.4, 0.9)]
    expected = torch.tensor(
        [
            [*odds[:3], log(-math.log(0.5)), 1.0, 1.0, 1.0, -2.0, 0.25],
            [*odds[3:6], log(-math.log(0.1)), 0.6, 0.125, 0.0, -1.0, 0.25],
            [*odds[6:], log(-math.log(0.001)), 0.1, 0.0025, 0.0, 0.0, 0.25],
        ]
    )
    torch.testing.assert_close(state, expected, atol=5e-4, rtol=0)


def test_extremes_stay_finite() -> None:
    state = signal_state(
        loss=torch.tensor([0.0, 1e4, -1e-7]),
        entropy=torch.tensor([0.0, 1.0, 0.0]),
        max_prob=torch.tensor([1.0, 0.0, 1.0]),
        agreement=torch.zeros(3),
        log_class_freq=torch.zeros(3),
        progress=1.0,
    )
    assert torch.isfinite(state).all()
    assert state.abs().max() < 4  # within what a network's first layer is made for


def test_small_differences_of_a_young_and_of_an_old_model_are_seen() -> None:
    for entropy in (torch.tensor([0.998, 0.9985]), torch.tensor([0.002, 0.0025])):
        same = torch.full((2,), 0.1)
        state = signal_state(same, entropy, same, same, same, progress=0.0)
        assert (state[1, 2] - state[0, 2]).abs() > 0.05


def test_probabilities_that_underflowed_agree() -> None:
    loss = torch.tensor([200.0, 200.0])
    max_prob = torch.tensor([0.0, 0.5])  # signals without max_prob bring p_y for both
    zero = torch.zeros(2)
    state = signal_state(loss, zero, max_prob, zero, zero, progress=0.0)
    torch.testing.assert_close(state[:, 5:7], torch.tensor([[1.0, 1.0], [0.0, 0.0]]))


def test_columns_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape \[B\]"):
        signal_state(**columns(entropy=torch.zeros(3, 1)), progress=0.0)
