# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent is rewarded for: difficulty and uncertainty, weighted by their variances."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Keeps the weight defined when neither signal varies (paper, Eq. 5).
WEIGHT_EPS = 1e-8


@dataclass(frozen=True)
class CompositeReward:
    """The composite reward of a batch, with its parts.

    Attributes:
        difficulty (Tensor): ``[B]`` in [0, 1], see :func:`difficulty`.
        uncertainty (Tensor): ``[B]`` in [0, 1], the normalised entropy.
        weight (Tensor): 0-d in [0, 1], the share of difficulty, see :func:`variance_weight`.
        reward (Tensor): ``[B]`` in [0, 1], ``weight * difficulty + (1 - weight) * uncertainty``.
    """

    difficulty: Tensor
    uncertainty: Tensor
    weight: Tensor
    reward: Tensor


def difficulty(loss: Tensor, clip_quantile: float = 0.95) -> Tensor:
    """Loss within its batch: clipped at a quantile, then min-max normalised (paper, Eq. 1).

    The clip (released code) keeps one outlier from pressing all other samples to 0. Any affine
    rescaling of the loss with a positive factor leaves the result unchanged.

    Args:
        loss (Tensor): ``[B]``, finite, B >= 1.
        clip_quantile (float): Quantile of the batch above which losses count as equal. Default:
            ``0.95``.

    Returns:
        Tensor: ``[B]`` in [0, 1]; all 0 where the losses do not differ.
    """
    ordered = loss.sort().values
    # As torch.quantile, which refuses more than 16 million values.
    position = clip_quantile * (len(loss) - 1)
    below = math.floor(position)
    above = min(below + 1, len(loss) - 1)
    low, high = ordered[0], torch.lerp(ordered[below], ordered[above], position - below)
    return (loss.clamp(max=high) - low) / (high - low).clamp_min(torch.finfo(loss.dtype).tiny)


def variance_weight(difficulty: Tensor, uncertainty: Tensor) -> Tensor:
    """Weight of difficulty: ``Var(d) / (Var(d) + Var(u) + 1e-8)`` (paper, Eq. 5).

    The signal that tells the samples of this batch apart counts more, so no balance is set by hand.
    The variances are those of the population: a batch of one has variance 0, not NaN.

    Args:
        difficulty (Tensor): ``[B]``.
        uncertainty (Tensor): ``[B]``.

    Returns:
        Tensor: 0-d in [0, 1].
    """
    var_d = difficulty.var(correction=0)
    var_u = uncertainty.var(correction=0)
    return var_d / (var_d + var_u + WEIGHT_EPS)


def composite_reward(loss: Tensor, entropy: Tensor) -> CompositeReward:
    """Difficulty and uncertainty of a batch, combined (paper, Eq. 1, 3, 5 and 6).

    Args:
        loss (Tensor): ``[B]`` float32 per-sample loss, finite.
        entropy (Tensor): ``[B]`` float32 predictive entropy divided by ``log C``, in [0, 1].

    Returns:
        CompositeReward: The reward, ``[B]`` in [0, 1], and its parts.

    Raises:
        ValueError: The two are not of one shape ``[B]`` with B >= 1.
    """
    if loss.dim() != 1 or loss.shape != entropy.shape or loss.numel() == 0:
        raise ValueError(
            "composite_reward needs loss and entropy of one shape [B] with B >= 1, got "
            f"{list(loss.shape)} and {list(entropy.shape)}"
        )
    hard = difficulty(loss)
    weight = variance_weight(hard, entropy)
    return CompositeReward(
        difficulty=hard,
        uncertainty=entropy,
        weight=weight,
        reward=weight * hard + (1 - weight) * entropy,
    )


def rank01(values: Tensor) -> Tensor:
    """Rank of each value within its batch, scaled to [0, 1]; ties share their mean rank.

    Nothing is read back to the host. Twin of ``selection.rank01``, which works on NumPy arrays:
    wings may not import one another. A test holds the two together.

    Args:
        values (Tensor): ``[B]``, without NaN.

    Returns:
        Tensor: ``[B]`` float32; the mean is always 0.5, and so is each rank when all are equal.

    Raises:
        ValueError: ``values`` is not one-dimensional.
    """
    if values.dim() != 1:
        raise ValueError(f"rank01 needs values of shape [B], got {list(values.shape)}")
    if len(values) == 1:
        return torch.full_like(values, 0.5, dtype=torch.float32)
    values = values.contiguous()
    ordered = values.sort().values
    below = torch.searchsorted(ordered, values)
    below_or_equal = torch.searchsorted(ordered, values, right=True)
    # Doubled mean rank, an exact integer: rounding happens once, in the division.
    return (below + below_or_equal - 1).float() / (2 * (len(values) - 1))


def paper_reward(action: Tensor, aim: Tensor) -> Tensor:
    """Action times composite reward, as published.

    It has no budget: it rises with the action for every sample, so that all actions drift to 1 and
    their order says little. Kept for comparison; see :func:`budget_reward`.

    Args:
        action (Tensor): ``[B]`` in (0, 1).
        aim (Tensor): ``[B]`` in [0, 1], the composite.

    Returns:
        Tensor: ``[B]``.
    """
    _check_same_batch(action, aim)
    return action * aim


def budget_reward(action: Tensor, aim: Tensor) -> Tensor:
    """Minus the squared distance between the action and the target's rank in its batch.

    Ranks have mean 0.5 whatever the batch is like, so a high action for one sample is paid for by a
    low one for another: the actions cannot all saturate.

    Args:
        action (Tensor): ``[B]`` in (0, 1).
        aim (Tensor): ``[B]`` in [0, 1], :func:`rank01` of what is worth much, within the batch.

    Returns:
        Tensor: ``[B]`` in [-1, 0].
    """
    _check_same_batch(action, aim)
    return -((action - aim) ** 2)


def _check_same_batch(action: Tensor, aim: Tensor) -> None:
    # [B, 1] against [B] would broadcast to [B, B] and destroy per-sample credit without an error.
    if action.dim() != 1 or action.shape != aim.shape:
        raise ValueError(
            "A reward needs action and aim of one shape [B], got "
            f"{list(action.shape)} and {list(aim.shape)}"
        )
