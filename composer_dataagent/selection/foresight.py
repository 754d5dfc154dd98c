# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What samples that were never seen are probably like, by their stream, shard and length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from composer_dataagent.selection.ledger import Ledger

# Columns that can be foreseen, and what they can be.
_RANGES = {
    "loss": (0.0, np.inf),
    "entropy": (0.0, 1.0),
    "max_prob": (0.0, 1.0),
    "score": (-np.inf, np.inf),
}
# So many samples must be seen of a shard, or a stream, for its own mean to count as much as what
# is known without it.
PRIOR = 16.0


def shard_means(
    values: NDArray,
    shard: NDArray[np.int64],
    stream: NDArray[np.int64],
    length: NDArray[np.float64],
) -> NDArray[np.float64]:
    """What a sample of each shard can be expected to show.

    A shard's own mean, drawn towards a line over the logarithm of the samples' length, through the
    mean of its stream, which is drawn towards the mean of all: the fewer samples were seen, the
    more.

    Args:
        values (NDArray): ``[M]`` of samples that were seen, finite.
        shard (NDArray[np.int64]): ``[M]`` which shard each is in, from 0 to S - 1.
        stream (NDArray[np.int64]): ``[S]`` which stream each shard belongs to.
        length (NDArray[np.float64]): ``[S]`` mean length of its samples, above 0.

    Returns:
        NDArray[np.float64]: ``[S]``; 0 everywhere if nothing was seen.
    """
    if not len(values):
        return np.zeros(len(stream))
    values = values.astype(np.float64)
    overall = values.mean()
    streams = int(stream.max()) + 1
    log_length = np.log(length)
    of_stream = _drawn(values, stream[shard], np.full(streams, overall))
    middle = _drawn(log_length[shard], stream[shard], np.full(streams, log_length[shard].mean()))
    longer = log_length - middle[stream]
    rest = values - of_stream[stream[shard]]
    seen = longer[shard]
    slope = (rest * seen).sum() / ((seen**2).sum() + PRIOR * _spread(seen))
    return _drawn(values, shard, of_stream[stream] + slope * longer)


def _drawn(
    values: NDArray[np.float64], group: NDArray[np.int64], prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean of each group, as if there were ``PRIOR`` more samples with the value of ``prior``."""
    counts = np.bincount(group, minlength=len(prior))
    sums = np.bincount(group, values, minlength=len(prior))
    return (sums + PRIOR * prior) / (counts + PRIOR)


def _spread(values: NDArray[np.float64]) -> float:
    """Variance, or 1 where there is none."""
    return float(values.var()) or 1.0


def foresee(
    ledger: Ledger,
    candidates: Ledger,
    shard_of_seen: NDArray[np.int64],
    shard_of_candidates: NDArray[np.int64],
    stream: NDArray[np.int64],
    length: NDArray[np.float64],
) -> None:
    """Write into ``candidates`` what those that were never seen are probably like.

    While a model trains, all losses fall: what a sample showed is compared with the others of the
    round in which it was seen.

    Args:
        ledger (Ledger): What is known of all samples.
        candidates (Ledger): Of some of them, see :meth:`Ledger.rows`; changed. Nothing is while no
            sample was seen yet.
        shard_of_seen (NDArray[np.int64]): ``[M]`` the shard of each sample of ``ledger`` that was
            seen, in the order of ids.
        shard_of_candidates (NDArray[np.int64]): ``[C]`` that of each candidate.
        stream (NDArray[np.int64]): ``[S]`` the stream of each shard.
        length (NDArray[np.float64]): ``[S]`` mean length of each shard's samples.
    """
    seen, unseen = np.flatnonzero(ledger.seen), ~candidates.seen
    if not len(seen) or not unseen.any():
        return
    shard = shard_of_candidates[unseen]
    for name, (low, high) in _RANGES.items():
        column = getattr(ledger, name)
        if column is None:
            continue
        values, when = column[seen].astype(np.float64), ledger.last_seen[seen]
        known = np.isfinite(values)
        values, when = values[known], when[known]
        of_round = np.bincount(when, values) / np.maximum(np.bincount(when), 1)
        expected = shard_means(values - of_round[when], shard_of_seen[known], stream, length)
        level = values.mean() if len(values) else 0.0
        getattr(candidates, name)[unseen] = np.clip(level + expected[shard], low, high)
    candidates.last_seen[unseen] = max(int(candidates.last_seen.max()), 0)
