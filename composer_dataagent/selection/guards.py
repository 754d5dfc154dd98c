# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Who is picked whatever its score: samples that nobody looked at for long, and rare classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from composer_dataagent.selection.gumbel import top_k
from composer_dataagent.selection.sketch import CHUNK


def overdue(
    last_seen: NDArray[np.int16], limit: int, spared: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Samples to pick now, so that none is left out more than ``limit`` times in a row.

    Those of the warm-up would all be due in the same epoch, and fill it. So they come little by
    little from half the limit on, the oldest first: as many as have to be picked in each epoch if
    all are to be in time. Of equally old ones evenly many are taken from everywhere, since
    neighbours often are of one class.

    Args:
        last_seen (NDArray[np.int16]): ``[N]`` epoch of the last visit; the latest of all is the
            epoch that has just ended.
        limit (int): At least 1.
        spared (NDArray[np.bool_] | None): ``[N]`` samples that may be left out for ever. Default:
            none.

    Returns:
        NDArray[np.bool_]: ``[N]``.
    """
    due = np.zeros(len(last_seen), bool)
    latest = int(last_seen.max(initial=-1))
    window = (limit - 1) // 2
    if latest - limit + window < 0:
        return due

    def waits() -> Iterator[tuple[slice, NDArray[np.int32]]]:
        """How many epochs each sample can still be left out."""
        for start in range(0, len(last_seen), CHUNK):
            rows = slice(start, start + CHUNK)
            wait = np.maximum(last_seen[rows].astype(np.int32) - (latest - limit), 0)
            if spared is not None:
                wait[spared[rows]] = window + 1
            yield rows, np.minimum(wait, window + 1)

    counts = np.zeros(window + 2, np.int64)
    for _, wait in waits():
        counts += np.bincount(wait, minlength=window + 2)
    counts = counts[: window + 1]  # the rest is not due yet
    by_then = np.cumsum(counts)
    needed = int(np.ceil(by_then / np.arange(1, window + 2)).max())
    if needed == 0:
        return due
    last = int(np.searchsorted(by_then, needed))
    ties, chosen = int(counts[last]), needed - int(by_then[last] - counts[last])
    passed = 0
    for rows, wait in waits():
        tied = wait == last
        place = passed + np.cumsum(tied)
        due[rows] = (wait < last) | (tied & (place * chosen // ties > (place - 1) * chosen // ties))
        passed = int(place[-1])
    return due


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
