# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is a sample worth? A small PPO actor-critic on tensors; knows neither Composer nor data."""

from __future__ import annotations

from composer_dataagent.agent.fit import fit
from composer_dataagent.agent.learner import REWARDS, Learner, Reward
from composer_dataagent.agent.noise import sample_keys
from composer_dataagent.agent.policy import Action, BetaPolicy
from composer_dataagent.agent.ppo import PPOConfig, PPOStats, Rollout, make_optimizer, ppo_update
from composer_dataagent.agent.reward import (
    CompositeReward,
    budget_reward,
    composite_reward,
    difficulty,
    paper_reward,
    rank01,
    variance_weight,
)
from composer_dataagent.agent.state import SIGNAL_STATE_DIM, signal_state
from composer_dataagent.agent.target import (
    Target,
    choose_target,
    expectedness,
    is_settled,
    ranked_by,
    without_losses,
    worth,
)

__all__ = [
    "REWARDS",
    "SIGNAL_STATE_DIM",
    "Action",
    "BetaPolicy",
    "CompositeReward",
    "Learner",
    "PPOConfig",
    "PPOStats",
    "Reward",
    "Rollout",
    "Target",
    "budget_reward",
    "choose_target",
    "composite_reward",
    "difficulty",
    "expectedness",
    "fit",
    "is_settled",
    "make_optimizer",
    "paper_reward",
    "ppo_update",
    "rank01",
    "ranked_by",
    "sample_keys",
    "signal_state",
    "variance_weight",
    "without_losses",
    "worth",
]
