# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent as a whole: a policy, its optimizer, and how it is rewarded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from composer_dataagent.agent.policy import Action, BetaPolicy
from composer_dataagent.agent.ppo import PPOConfig, PPOStats, Rollout, make_optimizer, ppo_update
from composer_dataagent.agent.reward import budget_reward, paper_reward, rank01


class Reward(NamedTuple):
    """A way to reward actions.

    Attributes:
        aim (Callable[[Tensor], Tensor]): From what the samples of one batch are worth, ``[B]``, to
            what the actions are compared with.
        of (Callable[[Tensor, Tensor], Tensor]): ``(actions [B], aims [B]) -> rewards [B]``.
    """

    aim: Callable[[Tensor], Tensor]
    of: Callable[[Tensor, Tensor], Tensor]


REWARDS = {
    "budget": Reward(rank01, budget_reward),
    "paper": Reward(lambda worth: worth, paper_reward),
}


class Learner:
    """Acts on samples, and learns by PPO from what it got for that.

    It remembers nothing between calls but weights and the optimizer's moments.

    Args:
        state_dim (int): Width ``D`` of a sample's state.
        reward (Reward): For example ``REWARDS["budget"]``.
        config (PPOConfig): The update's hyperparameters. Default: ``PPOConfig()``.
        hidden (Sequence[int]): Widths of the hidden layers of actor and critic. Default:
            ``(32, 32)``.
        seed (int): Seeds the weights. Default: ``0``.
        device (torch.device | str): Where the agent lives: the model's device. Default: ``"cpu"``.
        all_reduce_sum (Callable[[Tensor], Tensor] | None): Sums a tensor over ranks. Default:
            ``None`` (one rank).
    """

    def __init__(
        self,
        state_dim: int,
        reward: Reward,
        config: PPOConfig | None = None,
        hidden: Sequence[int] = (32, 32),
        seed: int = 0,
        device: torch.device | str = "cpu",
        all_reduce_sum: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.config = config or PPOConfig()
        self.policy = BetaPolicy(state_dim, hidden=tuple(hidden), seed=seed).to(device)
        self.optimizer = make_optimizer(self.policy, self.config)
        self.reward = reward
        self._all_reduce_sum = all_reduce_sum

    def act(self, state: Tensor, keys: Tensor) -> Action:
        """Draw an action for every sample. See :meth:`BetaPolicy.act`."""
        return self.policy.act(state, keys)

    def learn(self, state: Tensor, action: Action, aim: Tensor) -> tuple[PPOStats, Tensor]:
        """Learn from what was done and what it was compared with.

        Args:
            state (Tensor): ``[M, D]`` float32, this rank's samples.
            action (Action): What :meth:`act` gave for them, since the last update.
            aim (Tensor): ``[M]`` float32, see :class:`Reward`.

        Returns:
            tuple[PPOStats, Tensor]: Diagnostics over all ranks, and this rank's rewards ``[M]``.
        """
        reward = self.reward.of(action.action, aim)
        rollout = Rollout(state, action.action, action.log_prob, action.value, reward)
        stats = ppo_update(self.policy, self.optimizer, rollout, self.config, self._all_reduce_sum)
        return stats, reward

    @torch.no_grad()
    def score(self, state: Tensor) -> Tensor:
        """Mean action, ``[B]`` in (0, 1): what the sample is worth in the policy's eyes."""
        return self.policy.mean_action(state)

    def digest(self) -> str:
        """A digest of the weights, to be compared between ranks; waits for the device."""
        weights = torch.cat([p.detach().flatten() for p in self.policy.parameters()])
        return hashlib.sha256(weights.cpu().numpy().tobytes()).hexdigest()

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizer: tensors and builtins only."""
        return {"policy": self.policy.state_dict(), "optimizer": self.optimizer.state_dict()}

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
