# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Paired differences over seeds, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """Of two methods' values, seed by seed.

    Attributes:
        mean (float): Mean of the differences.
        low (float): Lower end of the 95 % interval of the mean.
        high (float): Its upper end.
        seeds (int): How many seeds both have.
    """

    mean: float
    low: float
    high: float
    seeds: int


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """The mean difference over the seeds that both have.

    The interval is the percentile bootstrap's: means of as many differences, drawn with
    replacement; always the same draws. With few seeds it is too narrow: of normal differences, that
    of 3 seeds covers the mean in 75 % of all cases, of 5 in 85 %, of 10 in 90 %.

    Args:
        ours (Mapping[int, float]): Values by seed.
        theirs (Mapping[int, float]): Likewise.

    Returns:
        Difference | None: ``None`` where no seed is in both.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    differences = np.array([ours[seed] - theirs[seed] for seed in seeds])
    drawn = np.random.default_rng(0).integers(0, len(seeds), (_RESAMPLES, len(seeds)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return Difference(float(differences.mean()), float(low), float(high), len(seeds))
