# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent as a whole acts, remembers, learns, forgets, and survives a checkpoint."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from composer_dataagent.agent import PPOConfig, budget_reward, rank01
from composer_dataagent.agent.learner import Learner

STATE_DIM = 4


def make_learner(seed: int = 0, hidden: tuple[int, ...] = (16, 16)) -> Learner:
    return Learner(STATE_DIM, budget_reward, PPOConfig(minibatch=64), hidden, seed)


def batch(seed: int, count: int = 64) -> tuple[Tensor, Tensor]:
    """States, and targets that can be read off them."""
    state = torch.randn(count, STATE_DIM, generator=torch.Generator().manual_seed(seed))
    return state, state[:, 0] - state[:, 1]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def train(learner: Learner, steps: range, update_interval: int = 5) -> None:
    for step in steps:
        learner.act(*batch(step), generator(step))
        if step % update_interval == 0:
            learner.update(generator(step))


def weights(learner: Learner) -> Tensor:
    return torch.cat([p.detach().flatten() for p in learner.policy.parameters()])


@pytest.mark.usefixtures("global_rng_untouched")
def test_scores_come_to_rank_by_the_target() -> None:
    learner = make_learner()
    state, target = batch(999, 500)
    before = learner.score(state)
    assert before.std() < 0.02
    train(learner, range(150))
    score = learner.score(state)
    assert score.shape == (500,) and not score.requires_grad
    assert ((score > 0) & (score < 1)).all()
    ranks = torch.stack([rank01(score), rank01(target)])
    assert torch.corrcoef(ranks)[0, 1] > 0.9


def test_actions_and_rewards_are_those_of_the_samples() -> None:
    state, target = batch(0)
    action, reward = make_learner().act(state, target, generator(0))
    assert action.shape == reward.shape == (64,)
    assert torch.equal(reward, budget_reward(action, target))


def test_an_update_learns_from_everything_since_the_last_one_and_forgets_it() -> None:
    learner = make_learner()
    assert learner.update(generator(0)) is None
    actions = [learner.act(*batch(seed), generator(seed))[0] for seed in range(3)]
    before = weights(learner)
    stats = learner.update(generator(0))
    assert stats is not None
    torch.testing.assert_close(stats.action_mean, torch.cat(actions).mean())
    assert not torch.equal(weights(learner), before)
    assert learner.update(generator(0)) is None


@pytest.mark.parametrize("stop", [11, 12, 15])  # right after an update, between, right before one
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
        learner.act(*batch(0), generator(0))
        learner.update(generator(0))
        learner.score(batch(0)[0])
