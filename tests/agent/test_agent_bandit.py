# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent learns: a bandit whose truth is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from composer_dataagent.agent import (
    REWARDS,
    BetaPolicy,
    Learner,
    PPOConfig,
    PPOStats,
    Reward,
    rank01,
    sample_keys,
)


class Bandit:
    """Samples of known worth; their states show it through noise, in one of six directions."""

    def __init__(self, seed: int, num_samples: int = 2000, noise: float = 0.15) -> None:
        self.seed = seed
        self.random = torch.Generator().manual_seed(10_000 + seed)
        latent = torch.rand(num_samples, generator=self.random)
        self.worth = latent**2  # skewed, as losses are
        direction = torch.randn(6, generator=self.random)
        direction /= direction.norm()
        self.states = latent[:, None] * direction
        self.states += noise * torch.randn(num_samples, 6, generator=self.random)
        # The best that anyone can read off the states.
        self.readable = self.states @ direction

    def train(
        self, updates: int, config: PPOConfig, reward: Reward = REWARDS["budget"]
    ) -> tuple[BetaPolicy, list[PPOStats]]:
        stats = []
        learner = Learner(6, reward, config, seed=self.seed)
        for update in range(updates):
            ids = torch.randint(len(self.worth), (10, 64), generator=self.random)
            state = self.states[ids.flatten()]
            step = torch.arange(10).repeat_interleave(64) + 10 * update
            action = learner.act(state, sample_keys(self.seed, step, ids.flatten()))
            aim = torch.cat([reward.aim(self.worth[batch]) for batch in ids])
            stats.append(learner.learn(state, action, aim)[0])
        return learner.policy, stats

    @torch.no_grad()
    def scores(self, policy: BetaPolicy) -> Tensor:
        return policy.mean_action(self.states)

    def worth_of_top_half(self, score: Tensor) -> float:
        return self.worth[score.topk(len(score) // 2).indices].mean().item()


def rank_correlation(x: Tensor, y: Tensor) -> float:
    return torch.corrcoef(torch.stack([rank01(x), rank01(y)]))[0, 1].item()


@pytest.mark.parametrize("seed", range(4))
def test_scores_rank_samples_by_their_true_worth(seed: int) -> None:
    bandit = Bandit(seed)
    policy, _ = bandit.train(40, PPOConfig())
    score = bandit.scores(policy)

    assert rank_correlation(score, bandit.worth) >= 0.85
    # Of what separates a random half from the best half, the selected half has nine tenths: all
    # but what the noise hides.
    everything, ideal = bandit.worth.mean().item(), bandit.worth_of_top_half(bandit.worth)
    reached = (bandit.worth_of_top_half(score) - everything) / (ideal - everything)
    assert reached >= 0.88
    readable = bandit.worth_of_top_half(bandit.readable)
    assert bandit.worth_of_top_half(score) >= readable - 0.005


def test_an_untrained_policy_has_no_opinion() -> None:
    bandit = Bandit(0)
    score = bandit.scores(BetaPolicy(6))
    assert score.std() < 0.02
    assert (score - 0.5).abs().max() < 0.05


def test_actions_saturate_without_a_budget_and_do_not_with_one() -> None:
    config = PPOConfig()
    with_budget, _ = (bandit := Bandit(0)).train(80, config)
    assert bandit.scores(with_budget).mean().item() == pytest.approx(0.5, abs=0.05)
    assert bandit.scores(with_budget).std() > 0.2

    without, stats = (bandit := Bandit(0)).train(80, config, REWARDS["paper"])
    assert bandit.scores(without).mean() > 0.9  # "train on all of them"
    assert bandit.scores(without).std() < 0.1
    assert stats[-1].action_mean > 0.9


def test_learning_shows_in_the_diagnostics() -> None:
    _, stats = Bandit(1).train(40, PPOConfig())
    assert stats[-1].action_std > stats[0].action_std + 0.02
    assert stats[-1].entropy < stats[0].entropy - 0.5  # decided
    assert 0 < stats[-1].approx_kl < 0.1  # and stable
    assert 0 < stats[-1].clip_fraction < 0.5


def test_a_long_run_at_a_high_rate_without_noise_stays_finite() -> None:
    bandit = Bandit(2, noise=0.0)
    policy, stats = bandit.train(150, PPOConfig(learning_rate=2e-2))
    assert all(torch.isfinite(p).all() for p in policy.parameters())
    assert all(torch.isfinite(value).all() for s in stats for value in vars(s).values())
    assert rank_correlation(bandit.scores(policy), bandit.worth) > 0.95
