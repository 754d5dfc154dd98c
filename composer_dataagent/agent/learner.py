# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent as a whole: a policy, its optimizer, and the rollout that it learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from composer_dataagent.agent.policy import BetaPolicy
from composer_dataagent.agent.ppo import PPOConfig, PPOStats, Rollout, make_optimizer, ppo_update

RewardFn = Callable[[Tensor, Tensor], Tensor]


class Learner:
    """Acts on samples, remembers what it did and what it got for it, and learns from that by PPO.

    All randomness comes from the generators that the caller passes, so that a caller who seeds
    them by the training step needs to save no random state.

    Args:
        state_dim (int): Width ``D`` of a sample's state.
        reward (RewardFn): ``(actions [B], targets [B]) -> rewards [B]``, for example
            :func:`~composer_dataagent.agent.budget_reward`.
        config (PPOConfig): The update's hyperparameters. Default: ``PPOConfig()``.
        hidden (Sequence[int]): Widths of the hidden layers of actor and critic. Default:
            ``(32, 32)``.
        seed (int): Seeds the weights. Default: ``0``.
        device (torch.device | str): Where the agent lives: the model's device. Default: ``"cpu"``.
        all_reduce_mean (Callable[[Tensor], Tensor] | None): Averages a tensor over ranks. Default:
            ``None`` (one rank).
    """

    def __init__(
        self,
        state_dim: int,
        reward: RewardFn,
        config: PPOConfig | None = None,
        hidden: Sequence[int] = (32, 32),
        seed: int = 0,
        device: torch.device | str = "cpu",
        all_reduce_mean: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.config = config or PPOConfig()
        self.policy = BetaPolicy(state_dim, hidden=tuple(hidden), seed=seed).to(device)
        self.optimizer = make_optimizer(self.policy, self.config)
        self._reward = reward
        self._all_reduce_mean = all_reduce_mean
        self._rollouts: list[Rollout] = []

    def act(
        self, state: Tensor, target: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw an action for every sample, and remember state, action and reward.

        Args:
            state (Tensor): ``[B, D]`` float32.
            target (Tensor): ``[B]`` float32, what the reward compares the actions with.
            generator (torch.Generator): The only source of randomness.

        Returns:
            tuple[Tensor, Tensor]: Actions and rewards, ``[B]`` float32 each.
        """
        action, log_prob, value = self.policy.act(state, generator)
        reward = self._reward(action, target)
        self._rollouts.append(Rollout(state, action, log_prob, value, reward))
        return action, reward

    def update(self, generator: torch.Generator) -> PPOStats | None:
        """Learn from all that was remembered since the last update, then forget it.

        Returns:
            PPOStats | None: Diagnostics; ``None`` if there was nothing to learn from.
        """
        if not self._rollouts:
            return None
        rollout = Rollout.cat(self._rollouts)
        self._rollouts = []
        return ppo_update(
            self.policy, self.optimizer, rollout, self.config, generator, self._all_reduce_mean
        )

    @torch.no_grad()
    def score(self, state: Tensor) -> Tensor:
        """Mean action, ``[B]`` in (0, 1): what the sample is worth in the policy's eyes."""
        return self.policy.mean_action(state)

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimizer and the rollout since the last update: tensors and builtins only."""
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rollouts": [
                {field.name: getattr(rollout, field.name) for field in fields(rollout)}
                for rollout in self._rollouts
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            ValueError: The saved agent was built for another state or other widths.
        """
        try:
            self.policy.load_state_dict(state["policy"])
        except RuntimeError as error:
            raise ValueError(
                "The checkpoint's agent has another shape than this one: give DataAgent the "
                f"`state` and `preset` that the checkpoint was made with ({error})"
            ) from error
        self.optimizer.load_state_dict(state["optimizer"])
        device = next(self.policy.parameters()).device
        self._rollouts = [
            Rollout(**{name: tensor.to(device) for name, tensor in rollout.items()})
            for rollout in state["rollouts"]
        ]
