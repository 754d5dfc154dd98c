# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Randomness that belongs to a sample and a step, and not to who draws it.

A generator's draws depend on how many were made before, so on how a batch is cut into ranks. Here
each draw is a hash of seed, step and sample id: the same on one rank and on many, with no state to
be saved.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The constants of splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
# generators"), as the signed numbers that torch's int64 arithmetic, which wraps around, takes.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
# Each round of the Gamma sampler below accepts at least 95 %: all six fail once in 10^8 draws.
_ROUNDS = 6
DRAWS_PER_BETA = 4 * _ROUNDS


def sample_keys(seed: int, step: Tensor, ids: Tensor) -> Tensor:
    """What the draws of a sample in a training step follow from.

    Args:
        seed (int): Of the run, 0 or more.
        step (Tensor): ``[B]`` int64, the training step in which each sample was visited.
        ids (Tensor): ``[B]`` int64 sample ids, on the same device.

    Returns:
        Tensor: ``[B]`` int64, on the device of ``ids``.
    """
    run = torch.full_like(step, seed % 2**63)
    key = torch.zeros_like(step)
    for part in (run, step, ids):
        key = _mix((key ^ part) + _GOLDEN)
    return key


def uniforms(keys: Tensor, count: int) -> Tensor:
    """Uniform draws, the same for the same key.

    Args:
        keys (Tensor): ``[B]`` int64, see :func:`sample_keys`.
        count (int): How many for each.

    Returns:
        Tensor: ``[B, count]`` float32, inside (0, 1).
    """
    counter = torch.arange(1, count + 1, device=keys.device) * _GOLDEN
    bits = _shift(_mix(keys[:, None] + counter), 41)  # 23: with the half below exact in float32
    return (bits.float() + 0.5) * 2.0**-23


def beta(alpha: Tensor, beta: Tensor, keys: Tensor) -> Tensor:
    """A draw from ``Beta(alpha, beta)`` for each key.

    Args:
        alpha (Tensor): ``[B]`` float32, at least 1.
        beta (Tensor): ``[B]`` float32, at least 1.
        keys (Tensor): ``[B]`` int64, see :func:`sample_keys`.

    Returns:
        Tensor: ``[B]`` float32 in (0, 1).
    """
    first, second = uniforms(keys, DRAWS_PER_BETA).chunk(2, dim=1)
    x, y = _gamma(alpha, first), _gamma(beta, second)
    return x / (x + y)


def _gamma(concentration: Tensor, uniform: Tensor) -> Tensor:
    """Marsaglia and Tsang (2000), "A simple method for generating gamma variables", shape >= 1."""
    normal, threshold = uniform.chunk(2, dim=1)
    normal = torch.special.ndtri(normal)
    d = concentration[:, None] - 1 / 3
    v = (1 + normal / (3 * d.sqrt())) ** 3
    log_v = v.clamp_min(torch.finfo(v.dtype).tiny).log()
    accepted = (v > 0) & (threshold.log() < 0.5 * normal.square() + d * (1 - v + log_v))
    proposed = d * v
    result = d[:, 0]
    for at in reversed(range(_ROUNDS)):
        result = torch.where(accepted[:, at], proposed[:, at], result)
    return result


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _MIX_1
    z = (z ^ _shift(z, 27)) * _MIX_2
    return z ^ _shift(z, 31)


def _shift(z: Tensor, by: int) -> Tensor:
    """To the right, zeros coming in: torch copies the sign."""
    return (z >> by) & (2 ** (64 - by) - 1)
