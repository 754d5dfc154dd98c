# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Top-k with exploration: ranks plus Gumbel noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from composer_dataagent.selection import sketch

# From here on, ranks are those of a histogram with some 130,000 bins: a sort is ten times slower.
SKETCH_FROM = 1 << 20


def rank01(values: NDArray) -> NDArray[np.float64]:
    """Rank of each value scaled to [0, 1]; ties share their mean rank.

    Twin of ``agent.rank01``, which works on tensors without waiting for their device: wings may not
    import one another. A test holds the two together.

    Args:
        values (NDArray): ``[N]``; NaN (not known) ranks lowest, level with minus infinity.

    Returns:
        NDArray[np.float64]: ``[N]``; 0.5 everywhere when N is 1 or all values are equal.
    """
    count = len(values)
    if count == 1:
        return np.full(1, 0.5)
    # Sorting puts NaN last: what is not known would be wanted most, by its position.
    values = np.where(np.isnan(values), -np.inf, values)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    # Runs of equal values share the mean of the ranks that they occupy.
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.concatenate([starts[1:], [count]])
    ranks = np.empty(count, np.float64)
    ranks[order] = np.repeat((starts + ends - 1) / 2, ends - starts)
    return ranks / (count - 1)


def quick_rank01(values: NDArray) -> NDArray:
    """:func:`rank01`; of a million values and more, in float32, by the bins of a histogram."""
    if len(values) < SKETCH_FROM:
        return rank01(values)
    found = sketch.Sketch(values)
    of_bin = found.rank01().astype(np.float32)
    ranks = np.empty(len(values), np.float32)
    for rows, bins in found.chunks():
        np.take(of_bin, bins, out=ranks[rows])
    return ranks


def top_k(key: NDArray, k: int) -> NDArray[np.int64]:
    """Indices of the ``k`` largest keys, sorted; ties go to the smaller index."""
    if k >= len(key):
        return np.arange(len(key))
    if len(key) >= SKETCH_FROM:
        threshold = sketch.kth_largest(key, k)
    else:
        threshold = np.partition(key, len(key) - k)[len(key) - k]
    parts = [key[start : start + sketch.CHUNK] for start in range(0, len(key), sketch.CHUNK)]
    ties = k - sum(int(np.count_nonzero(part > threshold)) for part in parts)
    chosen = np.empty(k, np.int64)
    filled = 0
    for number, part in enumerate(parts):
        at = np.flatnonzero(part == threshold)[:ties]
        ties -= len(at)
        mask = part > threshold
        mask[at] = True
        here = np.flatnonzero(mask) + number * sketch.CHUNK
        chosen[filled : filled + len(here)] = here
        filled += len(here)
    return chosen


def gumbel(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Standard Gumbel noise, ``[count]``, always finite (a uniform draw can be exactly 0)."""
    uniform = rng.random(count)
    return -np.log(-np.log(np.clip(uniform, 1e-300, 1 - 1e-16)))


def gumbel_keys(
    score: NDArray,
    rng: np.random.Generator,
    explore: float | None = 4.0,
) -> NDArray:
    """``explore * rank01(score) + Gumbel(0, 1)``: the ``k`` largest are what is picked.

    That is equal to drawing ``k`` samples without replacement with weights
    ``exp(explore * rank01)``.

    Args:
        score (NDArray): ``[N]``, any scale, since only ranks count; NaN ranks lowest.
        rng (np.random.Generator): The only source of randomness.
        explore (float | None): Weight of the ranks against the noise; 0 is uniform, ``None`` is
            greedy: no noise. Default: ``4.0``.

    Returns:
        NDArray: ``[N]``, float64; float32 of a million samples and more, whose ranks are those of
        a histogram.
    """
    keys = quick_rank01(score)
    keys *= 1.0 if explore is None else explore
    if explore is None:
        return keys
    if len(score) < SKETCH_FROM:
        keys += gumbel(len(score), rng)
    else:
        _add_noise(keys, rng)
    return keys


def _add_noise(keys: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Add Gumbel noise in place, chunk by chunk: no more memory is needed."""
    draws = np.empty(min(sketch.CHUNK, len(keys)), np.float32)
    for start in range(0, len(keys), sketch.CHUNK):
        key = keys[start : start + sketch.CHUNK]
        draw = draws[: len(key)]
        # Minus the logarithm of an exponential draw is a Gumbel draw; a draw can be exactly 0.
        rng.standard_exponential(dtype=np.float32, out=draw)
        np.maximum(draw, np.finfo(np.float32).tiny, out=draw)
        key -= np.log(draw, out=draw)
