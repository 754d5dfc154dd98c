# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which bytes of a shard hold which samples, and which of them are read at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Spans = list[tuple[int, int]]


Samples = TypeVar("Samples", int, NDArray[np.int64])


def header_size(samples: Samples) -> Samples:
    """Bytes of an MDS shard, or of each of some, that say where its samples are.

    That is the number of samples and, for each of them and for the end of the last, where it
    begins: uint32 each (``streaming/base/format/mds/writer.py``, ``encode_joint_shard``).
    """
    return 4 * (samples + 2)


def offsets_of(header: bytes, samples: int, size: int) -> NDArray[np.int64]:
    """Where samples begin and end, as a shard's header says, checked.

    Args:
        header (bytes): The first :func:`header_size` bytes of the shard.
        samples (int): How many samples the index says it has.
        size (int): How many bytes the index says it has.

    Returns:
        NDArray[np.int64]: ``[samples + 1]`` offsets; sample ``i`` is from ``i`` to ``i + 1``.

    Raises:
        ValueError: It is not the header of such a shard.
    """
    if len(header) != header_size(samples):
        raise ValueError(f"its header has {len(header)} bytes, not {header_size(samples)}")
    count, *_ = np.frombuffer(header, np.uint32, 1)
    if count != samples:
        raise ValueError(f"it has {count} samples, but the index says {samples}")
    offsets = np.frombuffer(header, np.uint32, offset=4).astype(np.int64)
    if offsets[0] < len(header) or offsets[-1] != size or (np.diff(offsets) <= 0).any():
        raise ValueError(
            f"its header has samples from byte {offsets[0]} to {offsets[-1]} of {size}, in an "
            "order that is none"
        )
    return offsets


def said_size(data: bytes | memoryview, column_sizes: Sequence[int | None], at: int = 0) -> int:
    """How long a sample is, as it says itself; MDS has no checksum of one.

    Args:
        data (bytes | memoryview): It begins with the sizes of its columns of variable size, uint32
            each.
        column_sizes (Sequence[int | None]): Bytes of each column; None where that varies.
        at (int): Where in ``data`` it begins. Default: ``0``.

    Returns:
        int: Bytes; what is in ``data`` may be fewer.
    """
    variable = column_sizes.count(None)
    fixed = sum(size or 0 for size in column_sizes) + 4 * variable
    if len(data) < at + 4 * variable:
        return fixed
    return fixed + int(np.frombuffer(data, np.uint32, variable, at).sum(dtype=np.int64))


def coalesce(
    samples: NDArray[np.int64], offsets: NDArray[np.int64], gap: int, most: int | None = None
) -> Spans:
    """The ranges to read for some samples of a shard.

    Args:
        samples (NDArray[np.int64]): ``[K]`` sorted numbers of samples within the shard.
        offsets (NDArray[np.int64]): See :func:`offsets_of`.
        gap (int): Two samples with at most so many bytes between them are read at once.
        most (int | None): A range ends with the sample that makes it so long. Default: however
            long it is.

    Returns:
        Spans: Begin and end of each range, in bytes; sorted, apart, each of at least one sample.
    """
    if not len(samples):
        return []
    begin, end = offsets[samples], offsets[samples + 1]
    is_first = np.concatenate([[True], begin[1:] - end[:-1] > gap])
    if most is not None:
        stretch = np.cumsum(is_first)
        start = begin[np.flatnonzero(is_first)][stretch - 1]
        is_first[1:] |= (begin[1:] - start[1:]) // most > (begin[:-1] - start[:-1]) // most
    first = np.flatnonzero(is_first)
    last = np.append(first[1:], len(samples)) - 1
    return list(zip(begin[first].tolist(), end[last].tolist(), strict=True))
