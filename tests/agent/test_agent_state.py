# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The nine numbers that describe a sample."""

from __future__ import annotations

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
    expected = torch.tensor(
        [
            [0.5, 0.5, 0.2, 0.6931472 / 4, 1.0, 1.0, 1.0, -2.0, 0.25],
            [0.1, 0.8, 0.3, 2.3025851 / 4, 0.6, 0.125, 0.0, -1.0, 0.25],
            [0.001, 0.4, 0.9, 1.0, 0.1, 0.0025, 0.0, 0.0, 0.25],
        ]
    )
    torch.testing.assert_close(state, expected)


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
    assert ((state >= 0) | (state > -1e-6)).all() and (state <= 1).all()


def test_probabilities_that_underflowed_agree() -> None:
    loss = torch.tensor([200.0, 200.0])
    max_prob = torch.tensor([0.0, 0.5])  # signals without max_prob bring p_y for both
    zero = torch.zeros(2)
    state = signal_state(loss, zero, max_prob, zero, zero, progress=0.0)
    torch.testing.assert_close(state[:, 5:7], torch.tensor([[1.0, 1.0], [0.0, 0.0]]))


def test_columns_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape \[B\]"):
        signal_state(**columns(entropy=torch.zeros(3, 1)), progress=0.0)
