# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which samples are worth it where reading costs, too: scores against bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from composer_dataagent.selection import gumbel, sketch

# Ranks are whole numbers from 0 to this: sums of them are exact, and the same on every machine.
_TOP = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class Units:
    """Runs of consecutive samples that are read together: shards, or parts of them.

    Attributes:
        samples (NDArray[np.int64]): ``[U]`` how many each has that can be picked, 0 or more.
        cost (NDArray[np.float64]): ``[U]`` what it costs to read any of them, >= 0, in samples of
            mean size.
    """

    samples: NDArray[np.int64]
    cost: NDArray[np.float64]

    def count(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of some samples are in each unit, ``[U]``.

        Args:
            ids (NDArray[np.int64]): ``[K]`` sorted positions among all samples of the units.
        """
        return np.diff(np.searchsorted(ids, np.cumsum(self.samples)), prepend=0)

    def among(self, ids: NDArray[np.int64], *taken: NDArray[np.int64]) -> Units:
        """The same units, of which some samples only can be picked.

        Args:
            ids (NDArray[np.int64]): ``[K]`` sorted, which.
            *taken (NDArray[np.int64]): Sorted ids that are read anyway, so that their units cost
                nothing more.
        """
        cost = self.cost
        for others in taken:
            cost = np.where(self.count(others) > 0, 0.0, cost)
        return Units(self.count(ids), cost)


def shard_units(samples: NDArray[np.int64], bytes_per_sample: NDArray[np.float64]) -> Units:
    """Whole shards as units.

    Args:
        samples (NDArray[np.int64]): ``[S]`` how many each has.
        bytes_per_sample (NDArray[np.float64]): ``[S]`` mean size of its samples, above 0.
    """
    size = samples * bytes_per_sample
    return Units(samples, size * (samples.sum() / size.sum()))


def choose(keys: NDArray, k: int, units: Units, weight: float) -> NDArray[np.int64]:
    """The ``k`` samples that are worth most after what it costs to read them.

    With ``u`` for the rank of a key, scaled to [0, 1], they are to have the largest sum of ``u``
    less ``weight`` times the cost of all units that they are in. A unit's worth is
    ``max_j (sum of its j largest u - weight cost) / j``: as long as the threshold, above which
    samples are wanted, is higher than that, none of its samples pays for it (Lagrangian
    relaxation). Units are opened by their worth until those that are open have ``k`` samples above
    the next one's, and the ``k`` largest keys in them are picked. What is missing to the best
    choice of all is at most the price of one unit, ``weight max(cost)``, but for the rounding of
    ``u`` to 16 bits.

    Args:
        keys (NDArray): ``[N]`` finite floats; changed.
        k (int): How many, from 1 to N.
        units (Units): Their samples sum up to N.
        weight (float): >= 0. 0 is :func:`~composer_dataagent.selection.gumbel.top_k`; the larger,
            the fewer units, up to whole units of the best mean.

    Returns:
        NDArray[np.int64]: ``[k]`` sorted.
    """
    if weight == 0 or k >= len(keys):
        return gumbel.top_k(keys, k)
    there = units.samples > 0
    samples, levels = units.samples[there], _levels(keys)
    worth = _worth(levels, samples, weight * _TOP * units.cost[there])
    is_open = _opened(levels, samples, worth, k)
    del levels
    last = np.nextafter(keys.min(), keys.dtype.type(-np.inf))  # in place: no copies of keys
    for part, rows in _parts(samples):
        np.copyto(keys[rows], last, where=np.repeat(~is_open[part], samples[part]))
    return gumbel.top_k(keys, k)


def _levels(keys: NDArray) -> NDArray[np.uint16]:
    """Rank of each key, from 0 to ``_TOP``; see :func:`gumbel.quick_rank01`."""
    if len(keys) < gumbel.SKETCH_FROM:
        return np.rint(gumbel.rank01(keys) * _TOP).astype(np.uint16)
    found = sketch.Sketch(keys)
    of_bin = np.rint(found.rank01() * _TOP).astype(np.uint16)
    levels = np.empty(len(keys), np.uint16)
    for rows, bins in found.chunks():
        np.take(of_bin, bins, out=levels[rows])
    return levels


def _parts(samples: NDArray[np.int64]) -> Iterator[tuple[slice, slice]]:
    """Whole units of about a chunk of samples together, as slices of units and of samples."""
    ends = np.cumsum(samples)
    first, begin = 0, 0
    while first < len(ends):
        last = max(first + 1, int(np.searchsorted(ends, begin + sketch.CHUNK, side="right")))
        last = min(last, first + _TOP)  # their numbers have 16 bits
        yield slice(first, last), slice(begin, int(ends[last - 1]))
        first, begin = last, int(ends[last - 1])


def _worth(
    levels: NDArray[np.uint16], samples: NDArray[np.int64], price: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What each unit gives for a sample, at best, less what it costs: ``[U]``, in levels."""
    worth = np.empty(len(samples))
    for part, rows in _parts(samples):
        size = samples[part]
        ordered = np.repeat(np.arange(len(size), dtype=np.uint32) << 16, size)
        ordered |= _TOP - levels[rows]
        ordered.sort()  # unit by unit, the best first
        own = _TOP - (ordered & _TOP)
        first = np.cumsum(size) - size
        total = np.cumsum(own, dtype=np.int64)
        gain = total - np.repeat(total[first] - own[first] + price[part], size)
        gain /= np.arange(1, len(own) + 1) - np.repeat(first, size)
        worth[part] = np.maximum.reduceat(gain, first)
    return worth


def _opened(
    levels: NDArray[np.uint16], samples: NDArray[np.int64], worth: NDArray[np.float64], k: int
) -> NDArray[np.bool_]:
    """Which units are open when ``k`` samples are wanted: ``[U]``."""
    order = np.argsort(-worth, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    # The threshold falls from one unit's worth to the next one's: after so many of them, a level
    # is above it.
    above = np.searchsorted(-worth[order], -np.arange(_TOP + 1.0), side="right")
    wanted = np.zeros(len(order) + 1, np.int64)
    for part, rows in _parts(samples):
        opened = np.repeat(place[part] + 1, samples[part])
        wanted += np.bincount(np.maximum(opened, above[levels[rows]]), minlength=len(wanted))
    return place < np.searchsorted(np.cumsum(wanted), k)
