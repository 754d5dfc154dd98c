# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The actor and the critic: from a sample's state to a Beta distribution over its action."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional as F
from torch.nn.utils import skip_init

from composer_dataagent.agent import noise

# At 0 and 1 the density of a Beta distribution is 0 or infinite, its logarithm never finite.
ACTION_MARGIN = 1e-4


class Action(NamedTuple):
    """What the policy did with a batch: ``[B]`` float32 each, without gradient.

    ``mean`` is that of the distribution that the action was drawn from.
    """

    action: Tensor
    log_prob: Tensor
    value: Tensor
    mean: Tensor


class BetaPolicy(nn.Module):
    """Actor ``s -> (alpha, beta)`` and critic ``s -> V``, two separate tanh networks.

    An action is a weight in (0, 1), drawn from ``Beta(alpha, beta)`` with
    ``alpha, beta = softplus(.) + 1``: never below 1, so the density has one peak inside (0, 1) and
    no poles at its ends (paper, arXiv 2603.07433). A fresh policy's mean action is close to 0.5.

    Args:
        state_dim (int): Width ``D`` of a sample's state.
        hidden (Sequence[int]): Widths of the hidden layers, of each network. Default: ``(32, 32)``.
        seed (int): Seeds the weights; global random state is neither read nor changed. Default:
            ``0``.

    Raises:
        ValueError: ``state_dim`` or a width is below 1.
    """

    def __init__(self, state_dim: int, hidden: Sequence[int] = (32, 32), seed: int = 0) -> None:
        super().__init__()
        if state_dim < 1 or any(width < 1 for width in hidden):
            raise ValueError(
                "BetaPolicy: state_dim and all widths in hidden must be at least 1, got "
                f"state_dim={state_dim}, hidden={tuple(hidden)}"
            )
        self.state_dim = state_dim
        generator = torch.Generator().manual_seed(seed)
        # The small last gain starts the actor near Beta(1.7, 1.7) for all: no early favourites.
        self.actor = _mlp([state_dim, *hidden, 2], last_gain=0.01, generator=generator)
        self.critic = _mlp([state_dim, *hidden, 1], last_gain=1.0, generator=generator)

    def concentrations(self, state: Tensor) -> Tensor:
        """``alpha`` and ``beta`` of the action's distribution, ``[B, 2]``.

        Args:
            state (Tensor): ``[B, D]`` float32.
        """
        if state.dim() != 2 or state.shape[1] != self.state_dim:
            raise ValueError(
                f"BetaPolicy needs states of shape [B, {self.state_dim}], got {list(state.shape)}"
            )
        return F.softplus(self.actor(state)) + 1

    def distribution(self, state: Tensor) -> Beta:
        """Distribution of the action of each sample.

        Args:
            state (Tensor): ``[B, D]`` float32.

        Returns:
            Beta: Batch shape ``[B]``.
        """
        # Validation would ask the device whether all values are in range: a host synchronisation.
        return Beta(*self.concentrations(state).unbind(1), validate_args=False)

    def value(self, state: Tensor) -> Tensor:
        """The critic's expected reward, ``[B]`` (squeezed: [B, 1] would broadcast)."""
        return self.critic(state).squeeze(1)

    def mean_action(self, state: Tensor) -> Tensor:
        """Mean of the action's distribution, ``[B]`` in (0, 1): the sample's score."""
        return self.distribution(state).mean

    @torch.no_grad()
    def act(self, state: Tensor, keys: Tensor) -> Action:
        """Draw an action for every sample.

        Args:
            state (Tensor): ``[B, D]`` float32.
            keys (Tensor): ``[B]`` int64, the only source of randomness, see
                :func:`~composer_dataagent.agent.noise.sample_keys`. (``Beta.sample`` draws from the
                global generator, which belongs to the user's training.)

        Returns:
            Action: Actions in [1e-4, 1 - 1e-4], their log probabilities, the critic's values, and
            the mean actions.
        """
        alpha, beta = self.concentrations(state).unbind(1)
        action = noise.beta(alpha, beta, keys).clamp(ACTION_MARGIN, 1 - ACTION_MARGIN)
        log_prob = Beta(alpha, beta, validate_args=False).log_prob(action)
        return Action(action, log_prob, self.value(state), alpha / (alpha + beta))


def _mlp(widths: Sequence[int], last_gain: float, generator: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (width_in, width_out) in enumerate(pairwise(widths)):
        # nn.Linear's own initialisation draws from the global generator: skip it.
        linear = cast(nn.Linear, skip_init(nn.Linear, width_in, width_out))
        last = i == len(widths) - 2
        nn.init.orthogonal_(linear.weight, generator=generator)
        with torch.no_grad():
            linear.weight *= last_gain if last else math.sqrt(2)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.Tanh()]
    return nn.Sequential(*layers)
