# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Who is picked whatever its score: samples that nobody looked at for long, and rare classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from composer_dataagent.selection.gumbel import top_k
from composer_dataagent.selection.sketch import CHUNK


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


def promote(keys: NDArray, rows: NDArray[np.bool_]) -> None:
    """Put some rows before all others, in place, in the order that they have among themselves.

    Args:
        keys (NDArray): ``[N]`` finite; changed.
        rows (NDArray[np.bool_]): ``[N]`` which come first.
    """
    np.add(keys, _first(keys), out=keys, where=rows)  # no copies, as keys[rows] += would make


def hold_back(keys: NDArray, rows: NDArray[np.bool_], loss: float) -> None:
    """Make some rows less likely to be picked, in place.

    Args:
        keys (NDArray): ``[N]``; changed.
        rows (NDArray[np.bool_]): ``[N]`` which.
        loss (float): What their keys lose.
    """
    np.subtract(keys, loss, out=keys, where=rows)


def fill_classes(
    chosen: NDArray[np.int64], keys: NDArray, label: NDArray[np.int32], share: float
) -> NDArray[np.int64]:
    """Exchange rows until enough of each class are chosen.

    Enough is ``share`` of what the class would have if all had equally many, and the whole class
    where it is smaller than that: the score of a rare class's samples says little, because the
    model agrees least with their labels.

    Args:
        chosen (NDArray[np.int64]): ``[k]`` sorted rows with the largest keys.
        keys (NDArray): ``[N]`` finite; may be changed.
        label (NDArray[np.int32]): ``[N]``, -1 where unknown.
        share (float): In [0, 1].

    Returns:
        NDArray[np.int64]: ``[k]`` sorted rows.
    """
    size = _count(label, int(label.max(initial=-1)) + 1)
    classes = int((size > 0).sum())
    if classes < 2:
        return chosen
    equal = len(chosen) / classes
    enough = np.where(size <= equal, size, int(share * equal))
    first = _first(keys)  # once: no class is promoted twice
    # Rows of one class push out those of another, whose floor held until then.
    while enough.any():
        lacking = _count(label, len(size), chosen) < enough
        if not lacking.any():
            break
        # All classes at once: data sets with thousands of them are usual.
        rows = np.flatnonzero(np.append(lacking, False)[label])  # the last for labels of -1
        rows = rows[np.lexsort((-keys[rows], label[rows]))]  # class by class, best first
        of_class = label[rows]
        place = np.arange(len(rows)) - np.searchsorted(of_class, of_class)
        keys[rows[place < enough[of_class]]] += first
        chosen = top_k(keys, len(chosen))
    return chosen


def _first(keys: NDArray) -> float:
    """What lifts the smallest key above the largest."""
    return keys.max() - keys.min() + 1


def _count(
    label: NDArray[np.int32], classes: int, rows: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Samples of each class; chunk by chunk, because bincount makes 64 bits of each label."""
    counts = np.zeros(classes + 1, np.int64)
    for start in range(0, len(label if rows is None else rows), CHUNK):
        part = slice(start, start + CHUNK)
        # Labels of -1 are counted in front.
        counts += np.bincount(
            label[part if rows is None else rows[part]] + 1, minlength=len(counts)
        )
    return counts[1:]
