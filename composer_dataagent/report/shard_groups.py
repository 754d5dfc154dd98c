# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Counts of many shards as few enough numbers for a row of the history, and of a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_GROUPS = 40


def group_shards(counts: NDArray[np.int64]) -> dict[str, int]:
    """Counts of neighbouring shards together, so that there are ``MOST_GROUPS`` at most.

    Args:
        counts (NDArray[np.int64]): ``[S]``, of each shard in the order of the data; at least one.

    Returns:
        dict[str, int]: ``"0": 12, "1": 7, ...`` of shards, or ``"0-3": 40, "4-6": 31, ...`` of
        groups of as nearly equal numbers of them as can be.
    """
    groups = min(len(counts), MOST_GROUPS)
    bounds = np.arange(groups + 1) * len(counts) // groups
    sums = np.add.reduceat(counts, bounds[:-1])
    return {
        str(first) if first == last else f"{first}-{last}": int(total)
        for first, last, total in zip(bounds[:-1], bounds[1:] - 1, sums, strict=True)
    }
