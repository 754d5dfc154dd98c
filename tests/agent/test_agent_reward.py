# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Laws of the rewards and of ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from composer_dataagent.agent import (
    budget_reward,
    composite_reward,
    difficulty,
    paper_reward,
    rank01,
    variance_weight,
)

# Eighths: sums and products below stay exact, so that laws can be tested for equality.
losses = st.lists(st.integers(0, 800).map(lambda i: i / 8), min_size=1, max_size=80)
unit = st.floats(0, 1, width=32)


@given(data=st.data(), loss=losses)
def test_the_composite_is_a_mean_of_both_signals(data: Any, loss: list[float]) -> None:
    entropy = torch.tensor(data.draw(st.lists(unit, min_size=len(loss), max_size=len(loss))))
    result = composite_reward(torch.tensor(loss), entropy)
    assert result.weight.shape == () and 0 <= result.weight <= 1
    for column in (result.difficulty, result.uncertainty, result.reward):
        assert column.shape == (len(loss),)
        assert ((column >= 0) & (column <= 1 + 1e-6)).all()
    low = torch.minimum(result.difficulty, result.uncertainty)
    high = torch.maximum(result.difficulty, result.uncertainty)
    assert ((result.reward >= low - 1e-6) & (result.reward <= high + 1e-6)).all()


@given(loss=losses, scale=st.sampled_from([0.25, 1.0, 16.0]), shift=st.integers(-64, 64))
def test_difficulty_ignores_the_scale_of_the_loss(
    loss: list[float], scale: float, shift: int
) -> None:
    original = difficulty(torch.tensor(loss))
    rescaled = difficulty(torch.tensor(loss) * scale + shift)
    torch.testing.assert_close(rescaled, original, atol=1e-5, rtol=0)


@given(loss=losses)
def test_difficulty_keeps_the_order_and_spans_the_unit_interval(loss: list[float]) -> None:
    values = torch.tensor(loss)
    result = difficulty(values)
    assert (result[values.argsort()].diff() >= 0).all()
    if values.amin() < torch.quantile(values, 0.95):
        assert result.amin() == 0 and result.amax() == 1
    else:
        assert (result == 0).all()


def test_losses_above_the_95th_percentile_count_as_equal() -> None:
    loss = torch.arange(101.0)  # its quantiles are its values
    result = difficulty(loss)
    assert (result[95:] == 1).all() and (result[:95] < 1).all()
    outlier = torch.cat([loss[:100], torch.tensor([1e9])])
    torch.testing.assert_close(difficulty(outlier), result)
    assert (difficulty(loss, clip_quantile=1.0)[99] < 1).item()


def test_the_signal_that_varies_more_weighs_more() -> None:
    spread, flat = torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.tensor([0.5, 0.5, 0.5, 0.5])
    assert variance_weight(spread, flat).item() == pytest.approx(1.0, abs=1e-6)
    assert variance_weight(flat, spread).item() == 0
    assert variance_weight(spread, spread).item() == pytest.approx(0.5, abs=1e-6)
    assert variance_weight(spread, spread / 2).item() == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize("count", [1, 2, 50])
def test_constant_signals_give_the_uncertainty(count: int) -> None:
    result = composite_reward(torch.full((count,), 2.3), torch.full((count,), 0.25))
    assert result.weight.item() == pytest.approx(0.0, abs=1e-6)
    torch.testing.assert_close(result.reward, torch.full((count,), 0.25))
    assert (result.difficulty == 0).all()


def test_signals_that_do_not_fit_are_refused() -> None:
    for loss, entropy in ([(3,), (4,)], [(3, 1), (3, 1)], [(0,), (0,)]):
        with pytest.raises(ValueError, match=r"one shape \[B\]"):
            composite_reward(torch.zeros(loss), torch.zeros(entropy))


@given(values=st.lists(st.integers(-5, 5), min_size=2, max_size=60))
def test_ranks_are_mean_ranks(values: list[int]) -> None:
    expected = (rankdata(values, method="average") - 1) / (len(values) - 1)
    result = rank01(torch.tensor(values, dtype=torch.float32))
    torch.testing.assert_close(result.double(), torch.from_numpy(expected), atol=1e-6, rtol=0)
    assert ((result >= 0) & (result <= 1)).all()
    assert result.mean().item() == pytest.approx(0.5, abs=1e-6)


@given(values=st.lists(st.integers(-50, 50), min_size=1, max_size=60))
def test_ranks_see_only_the_order(values: list[int]) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    assert torch.equal(rank01(x), rank01(x**3 + 7))
    torch.testing.assert_close(rank01(x), 1 - rank01(-x))


def test_ranks_of_one_and_of_none() -> None:
    assert rank01(torch.tensor([3.0])).tolist() == [0.5]
    assert rank01(torch.empty(0)).shape == (0,)
    assert rank01(torch.arange(10.0)[::2]).tolist() == [0, 0.25, 0.5, 0.75, 1]  # strided
    with pytest.raises(ValueError, match=r"shape \[B\]"):
        rank01(torch.zeros(3, 1))


def test_the_budget_reward_is_best_at_the_rank() -> None:
    aim = rank01(torch.tensor([0.1, 5.0, 2.0]))
    assert budget_reward(aim, aim).tolist() == [0, 0, 0]
    off = budget_reward(torch.tensor([0.5, 0.5, 0.5]), aim)
    torch.testing.assert_close(off, torch.tensor([-0.25, -0.25, 0.0]))


def test_the_paper_reward_is_a_product() -> None:
    reward = paper_reward(torch.tensor([0.5, 1.0]), torch.tensor([0.5, 0.25]))
    torch.testing.assert_close(reward, torch.tensor([0.25, 0.25]))


@pytest.mark.parametrize("reward", [budget_reward, paper_reward])
def test_rewards_refuse_what_would_broadcast(reward: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"one shape \[B\]"):
        reward(torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(ValueError, match=r"one shape \[B\]"):
        reward(torch.zeros(4), torch.zeros(1))


def test_nothing_waits_for_the_device(no_host_sync: Callable[[], Any]) -> None:
    x = torch.rand(64)
    with no_host_sync():
        result = composite_reward(x, x)
        budget_reward(x, result.reward)
        paper_reward(x, result.reward)
