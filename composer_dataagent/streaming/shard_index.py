# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where samples are: from global sample ids to shards, in plain NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def samples_by_shard(
    ids: NDArray[np.int64], samples_per_shard: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count how many of the given samples each shard holds.

    Args:
        ids (NDArray[np.int64]): ``[K]`` sorted sample ids.
        samples_per_shard (NDArray[np.int64]): ``[S]`` size of each shard, in the order of ids.

    Returns:
        NDArray[np.int64]: ``[S]``, with sum ``K``.
    """
    ends = np.cumsum(samples_per_shard)
    return np.diff(np.searchsorted(ids, ends), prepend=0)


def shuffle_units(
    ids: NDArray[np.int64], samples_per_shard: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Sizes of the runs of samples that streaming's shuffle keeps together: one per shard used.

    What streaming's shuffles take for the sizes of shards.
    """
    counts = samples_by_shard(ids, samples_per_shard)
    return counts[counts > 0]


def ids_dtype(num_samples: int) -> type[np.signedinteger]:
    """Of sample ids: 4 bytes where they fit."""
    return np.int32 if num_samples <= np.iinfo(np.int32).max else np.int64


def ids_of(bits: NDArray[np.uint8], num_samples: int, chunk: int = 1 << 18) -> NDArray:
    """The samples in a selection, unpacked piece by piece: at 100 million, memory counts.

    Args:
        bits (NDArray[np.uint8]): ``[ceil(N / 8)]`` bitmap as :func:`numpy.packbits` makes it.
        num_samples (int): ``N``.
        chunk (int): Bytes of the bitmap in a piece.

    Returns:
        NDArray: ``[K]`` sorted ids, int32 where they fit.
    """
    dtype = ids_dtype(num_samples)
    pieces = [
        (8 * start + np.flatnonzero(np.unpackbits(bits[start : start + chunk]))).astype(dtype)
        for start in range(0, len(bits), chunk)
    ]
    ids = np.concatenate(pieces)
    return ids[: np.searchsorted(ids, num_samples)]
