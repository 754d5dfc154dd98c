# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent as a whole acts, learns, and survives a checkpoint."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from composer_dataagent.agent import REWARDS, Learner, PPOConfig, rank01, sample_keys

STATE_DIM = 4


def make_learner(seed: int = 0, hidden: tuple[int, ...] = (16, 16)) -> Learner:
    return Learner(STATE_DIM, REWARDS["budget"], PPOConfig(), hidden, seed)


def batch(seed: int, count: int = 64) -> tuple[Tensor, Tensor]:
    """States, and targets that can be read off them."""
    state = torch.randn(count, STATE_DIM, generator=torch.Generator().manual_seed(seed))
    return state, state[:, 0] - state[:, 1]


def keys(step: int, count: int = 64) -> Tensor:
    return sample_keys(0, torch.full((count,), step), torch.arange(count))


def train(learner: Learner, steps: range) -> None:
    for step in steps:
        state, target = batch(step)
        learner.learn(state, learner.act(state, keys(step)), rank01(target))


def weights(learner: Learner) -> Tensor:
    return torch.cat([p.detach().flatten() for p in learner.policy.parameters()])


@pytest.mark.usefixtures("global_rng_untouched")
def test_scores_come_to_rank_by_the_target() -> None:
    learner = make_learner()
    state, target = batch(999, 500)
    before = learner.score(state)
    assert before.std() < 0.02
    train(learner, range(80))
    score = learner.score(state)
    assert score.shape == (500,) and not score.requires_grad
    assert ((score > 0) & (score < 1)).all()
    ranks = torch.stack([rank01(score), rank01(target)])
    assert torch.corrcoef(ranks)[0, 1] > 0.9


@pytest.mark.parametrize("name", REWARDS)
def test_rewards_are_those_of_the_samples(name: str) -> None:
    state, target = batch(0)
    learner = Learner(STATE_DIM, REWARDS[name])
    action = learner.act(state, keys(0))
    aim = REWARDS[name].aim(target.sigmoid())
    before = weights(learner)
    stats, reward = learner.learn(state, action, aim)
    assert torch.equal(reward, REWARDS[name].of(action.action, aim))
    torch.testing.assert_close(stats.action_mean, action.action.mean())
    assert not torch.equal(weights(learner), before)


def test_the_digest_tells_weights_apart() -> None:
    learner = make_learner()
    before = learner.digest()
    assert before == make_learner().digest() != make_learner(seed=1).digest()
    train(learner, range(1))
    assert learner.digest() != before


@pytest.mark.parametrize("stop", [1, 12])
def test_a_resumed_learner_goes_on_as_if_never_stopped(stop: int) -> None:
    whole, stopped = make_learner(), make_learner()
    train(whole, range(30))
    train(stopped, range(stop))
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    resumed = make_learner(seed=1)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    train(resumed, range(stop, 30))
    assert torch.equal(weights(resumed), weights(whole))


def test_an_agent_of_another_shape_is_refused() -> None:
    saved = make_learner(hidden=(8,)).state_dict()
    with pytest.raises(ValueError, match=r"another shape.*`state` and `preset`"):
        make_learner().load_state_dict(saved)


def test_nothing_waits_for_the_device(no_host_sync: Callable[[], Any]) -> None:
    learner = make_learner()
    with no_host_sync():
        train(learner, range(1))
        learner.score(batch(0)[0])
