# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Proximal policy optimisation for a contextual bandit: one sample, one action, one reward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.distributions import Dirichlet

from composer_dataagent.agent.policy import BetaPolicy

# Below this variance, advantages and rewards count as constant.
VARIANCE_EPS = 1e-8
MAX_LOG_RATIO = 20.0
_DIAGNOSTICS = 5


@dataclass(frozen=True)
class PPOConfig:
    """Hyperparameters of an update.

    Attributes:
        clip (float): How far the probability ratio may move from 1 before its gradient ends.
            Default: ``0.2``.
        passes (int): Gradient steps, each on the whole rollout. Default: ``4``.
        learning_rate (float): Adam's. Default: ``1e-2``.
        value_coef (float): Weight of the critic's loss. Default: ``0.5``.
        entropy_coef (float): Weight of the entropy bonus. Default: ``0.0``.
        max_grad_norm (float | None): Gradients are scaled down to this norm; ``None`` leaves them.
            Default: ``0.5``.

    Raises:
        ValueError: A value is out of range.
    """

    clip: float = 0.2
    passes: int = 4
    learning_rate: float = 1e-2
    value_coef: float = 0.5
    entropy_coef: float = 0.0
    max_grad_norm: float | None = 0.5

    def __post_init__(self) -> None:
        for name, holds, accepted in (
            ("clip", self.clip > 0, "above 0"),
            ("passes", self.passes >= 1, "at least 1"),
            ("learning_rate", self.learning_rate > 0, "above 0"),
            ("value_coef", self.value_coef >= 0, "0 or more"),
            ("entropy_coef", self.entropy_coef >= 0, "0 or more"),
            (
                "max_grad_norm",
                self.max_grad_norm is None or self.max_grad_norm > 0,
                "None or above 0",
            ),
        ):
            if not holds:
                raise ValueError(f"PPOConfig: {name}={getattr(self, name)!r} must be {accepted}")


@dataclass
class Rollout:
    """What the policy did and what it got for it, one row per visit of a sample.

    Attributes:
        states (Tensor): ``[M, D]``.
        actions (Tensor): ``[M]`` in (0, 1).
        log_probs (Tensor): ``[M]``, of the actions when they were taken.
        values (Tensor): ``[M]``, the critic's when the actions were taken.
        rewards (Tensor): ``[M]``.

    Raises:
        ValueError: The shapes do not fit together. A stray ``[M, 1]`` would broadcast against
            ``[M]`` to ``[M, M]`` and silently give every sample the batch's mean credit.
    """

    states: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    rewards: Tensor

    def __post_init__(self) -> None:
        shapes = {field.name: list(getattr(self, field.name).shape) for field in fields(self)}
        rows = shapes["states"][:1]
        if self.states.dim() != 2 or any(
            shape != rows for name, shape in shapes.items() if name != "states"
        ):
            raise ValueError(f"Rollout needs states [M, D] and all else [M], got {shapes}")

    def __len__(self) -> int:
        return len(self.states)


@dataclass(frozen=True)
class PPOStats:
    """Diagnostics of an update, over all ranks: 0-d tensors, still on the device.

    Losses, ``approx_kl``, ``clip_fraction`` and ``entropy`` are means over the last pass.

    Attributes:
        policy_loss (Tensor): The clipped surrogate.
        value_loss (Tensor): Half the critic's mean squared error.
        approx_kl (Tensor): How far the policy moved, in nats. Above .05 it moves too fast.
        clip_fraction (Tensor): Share of samples whose ratio left the clip range.
        explained_variance (Tensor): Share of the rewards' variance that the critic foresaw: 1 is
            perfect, 0 no better than a constant. 0 when the rewards are constant.
        entropy (Tensor): Mean entropy of the action's distribution, in nats.
        action_mean (Tensor): Mean of the actions taken.
        action_std (Tensor): Standard deviation of the actions taken.
    """

    policy_loss: Tensor
    value_loss: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor
    explained_variance: Tensor
    entropy: Tensor
    action_mean: Tensor
    action_std: Tensor

    def as_floats(self) -> dict[str, float]:
        """All of them by name, at the price of one host synchronisation."""
        names = [field.name for field in fields(self)]
        values = torch.stack([getattr(self, name) for name in names]).tolist()
        return dict(zip(names, values, strict=True))


def make_optimizer(policy: BetaPolicy, config: PPOConfig) -> torch.optim.Adam:
    """Adam over actor and critic, fused where the policy's device has it.

    Args:
        policy (BetaPolicy): Already on its device.
        config (PPOConfig): Gives the learning rate.

    Returns:
        torch.optim.Adam: The optimizer for :func:`ppo_update`.
    """
    device = next(policy.parameters()).device
    return torch.optim.Adam(
        policy.parameters(),
        lr=config.learning_rate,
        # PPO's customary value: at 1e-8 the tiny gradients of a settled policy take full steps.
        eps=1e-5,
        fused=device.type in ("cpu", "cuda"),
    )


def ppo_update(
    policy: BetaPolicy,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    config: PPOConfig,
    all_reduce_sum: Callable[[Tensor], Tensor] | None = None,
) -> PPOStats:
    """Learn from a rollout by PPO (Schulman et al. 2017), each row a bandit problem of its own.

    A sample's action has no successor state, so there is no return to bootstrap (gamma = 0): the
    advantage is ``reward - V(s)``. Every pass is one gradient step on all rows. Nothing is read
    back to the host. The result is a function of the arguments alone.

    With several ranks, each brings its own rows, as many as it has, and ends with the same weights:
    moments and gradients are sums over all rows of all ranks, divided by their number. So, but for
    the order of summation, it does not matter which rank has which row. That takes one collective
    for each pass, with all gradients in one flat bucket, and two before the first.

    Args:
        policy (BetaPolicy): Changed in place.
        optimizer (torch.optim.Optimizer): From :func:`make_optimizer`; changed in place.
        rollout (Rollout): At least one row, on one of the ranks at least.
        config (PPOConfig): Hyperparameters.
        all_reduce_sum (Callable[[Tensor], Tensor] | None): Sums a tensor over ranks, in place or
            not. Default: ``None`` (one rank).

    Returns:
        PPOStats: Diagnostics, the same on every rank.

    Raises:
        ValueError: The rollout is empty, and there are no other ranks.
    """
    if all_reduce_sum is None:
        if len(rollout) == 0:
            raise ValueError("ppo_update needs a rollout with at least one row")
        all_reduce_sum = _identity

    # Moments over all ranks, in two steps: the variance of rounded moments could be negative.
    advantages = rollout.rewards - rollout.values
    columns = torch.stack([advantages, rollout.rewards, rollout.actions]).double()
    rows = columns.new_full((1,), len(rollout))
    sums = all_reduce_sum(torch.cat([columns.sum(dim=1), rows]))
    means, count = (sums[:3] / sums[3]).float(), sums[3].float()
    spread = (columns - means[:, None]).square().sum(dim=1)
    variances = (all_reduce_sum(spread) / sums[3]).float()
    advantages = (advantages - means[0]) * (variances[0] + VARIANCE_EPS).rsqrt()

    # The gradients and, behind them, the diagnostics live in one flat bucket.
    parameters = list(policy.parameters())
    sizes = [parameter.numel() for parameter in parameters]
    bucket = torch.zeros(sum(sizes) + _DIAGNOSTICS, device=rollout.states.device)
    gradient, diagnostics = bucket.split([sum(sizes), _DIAGNOSTICS])
    for parameter, part in zip(parameters, gradient.split(sizes), strict=True):
        parameter.grad = part.view_as(parameter)

    # Beta is Dirichlet for a share and its rest. As Beta, parameters and actions would be taken
    # apart and put together again in each pass.
    shares = torch.stack([rollout.actions, 1.0 - rollout.actions], -1)
    for last in [False] * (config.passes - 1) + [True]:
        distribution = Dirichlet(policy.concentrations(rollout.states), validate_args=False)
        log_ratio = distribution.log_prob(shares) - rollout.log_probs
        # The surrogate is flat long before this bound, but an overflow behind a clip still gives a
        # gradient of 0 * inf = NaN, and one NaN ends all learning.
        log_ratio = log_ratio.clamp(max=MAX_LOG_RATIO)
        ratio = log_ratio.exp()
        assert ratio.shape == advantages.shape

        unclipped = advantages * ratio
        clipped = advantages * ratio.clamp(1 - config.clip, 1 + config.clip)
        policy_loss = -torch.minimum(unclipped, clipped).sum() / count

        value = policy.value(rollout.states)
        assert value.shape == rollout.rewards.shape
        value_loss = 0.5 * (value - rollout.rewards).square().sum() / count

        loss = policy_loss + config.value_coef * value_loss
        if config.entropy_coef > 0:  # its derivative is costly
            loss = loss - config.entropy_coef * (distribution.entropy().sum() / count)

        bucket.zero_()
        loss.backward()
        if last:  # what the passes before showed is not told
            with torch.no_grad():
                # Low-variance estimate of KL(old || new): joschu.net/blog/kl-approx.html
                approx_kl = (ratio - 1 - log_ratio).sum() / count
                clip_fraction = ((ratio - 1).abs() > config.clip).sum() / count
                entropy = distribution.entropy().sum() / count
                diagnostics.copy_(
                    torch.stack([policy_loss, value_loss, approx_kl, clip_fraction, entropy])
                )
        bucket.copy_(all_reduce_sum(bucket))
        if config.max_grad_norm is not None:
            gradient *= (config.max_grad_norm / (gradient.norm() + 1e-6)).clamp(max=1.0)
        optimizer.step()

    for parameter in parameters:
        parameter.grad = None
    policy_loss, value_loss, approx_kl, clip_fraction, entropy = diagnostics.unbind()
    foreseen = 1 - variances[0] / variances[1].clamp_min(VARIANCE_EPS)
    return PPOStats(
        policy_loss=policy_loss,
        value_loss=value_loss,
        approx_kl=approx_kl,
        clip_fraction=clip_fraction,
        explained_variance=torch.where(variances[1] > VARIANCE_EPS, foreseen, 0.0),
        entropy=entropy,
        action_mean=means[2],
        action_std=variances[2].sqrt(),
    )


def _identity(tensor: Tensor) -> Tensor:
    return tensor
