# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Who is picked whatever its score: samples that nobody looked at for long, and rare classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from composer_dataagent.selection.gumbel import top_k

_CHUNK = 1 << 20


def overdue(last_seen: NDArray[np.int16], max_age: int) -> NDArray[np.bool_]:
    """Samples that would be unseen for longer than ``max_age`` epochs if not picked now.

    Args:
        last_seen (NDArray[np.int16]): ``[N]`` epoch of the last visit; the latest of all is the
            epoch that has just ended.
        max_age (int): How many epochs in a row a sample may be left out.

    Returns:
        NDArray[np.bool_]: ``[N]``.
    """
    return last_seen <= last_seen.max(initial=0) - max_age


def promote(keys: NDArray, rows: NDArray) -> None:
    """Put some rows before all others, in place, in the order that they have among themselves.

    Args:
        keys (NDArray): ``[N]`` finite; changed.
        rows (NDArray): Indices or a mask of those that come first.
    """
    keys[rows] += keys.max() - keys.min() + 1


def fill_classes(keys: NDArray, k: int, label: NDArray[np.int32], share: float) -> None:
    """Promote rows until the ``k`` largest keys hold enough of each class, in place.

    Enough is ``share`` of what the class would have if all had equally many, and the whole class
    where it is smaller than that: the score of a rare class's samples says little, because the
    model agrees least with their labels.

    Args:
        keys (NDArray): ``[N]`` finite; changed.
        k (int): How many are picked.
        label (NDArray[np.int32]): ``[N]``, -1 where unknown.
        share (float): In [0, 1].
    """
    size = _count(label)
    classes = int((size > 0).sum())
    if classes < 2:
        return
    equal = k / classes
    enough = np.where(size <= equal, size, int(share * equal))
    if not enough.any():
        return
    lacking = np.flatnonzero(_count(label[top_k(keys, k)], len(size)) < enough)
    if not len(lacking):
        return
    # All at once: data sets with thousands of classes are usual.
    is_lacking = np.zeros(len(size) + 1, bool)  # the last one for unknown labels, which are -1
    is_lacking[lacking] = True
    rows = np.flatnonzero(is_lacking[label])
    rows = rows[np.lexsort((-keys[rows], label[rows]))]  # class by class, best first
    of_class = label[rows]
    first = np.searchsorted(of_class, of_class)
    promote(keys, rows[np.arange(len(rows)) - first < enough[of_class]])


def _count(label: NDArray[np.int32], classes: int = 0) -> NDArray[np.int64]:
    """Samples of each class; chunk by chunk, because bincount makes 64 bits of each label."""
    counts = np.zeros(max(classes, int(label.max(initial=-1)) + 1), np.int64)
    for start in range(0, len(label), _CHUNK):
        part = label[start : start + _CHUNK]
        counts += np.bincount(part[part >= 0], minlength=len(counts))
    return counts
