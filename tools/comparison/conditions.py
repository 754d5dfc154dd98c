# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is done to clean data: label noise, long tails, duplicates. Pure functions of a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Condition:
    """Training data, as rows of a source.

    Attributes:
        rows (NDArray[np.int64]): ``[N]`` row of the source that each sample is; its position is the
            sample id.
        labels (NDArray[np.int64]): ``[N]`` what the sample is trained with.
        wrong (NDArray[np.bool_]): ``[N]`` whether that is not the source's label.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    wrong: NDArray[np.bool_]


def symmetric_noise(
    labels: NDArray[np.int64], share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Give a share of the samples another label, any of the others alike."""
    classes = int(labels.max()) + 1
    flipped = _some(len(labels), share, rng)
    noisy = labels.copy()
    noisy[flipped] = (labels[flipped] + rng.integers(1, classes, len(flipped))) % classes
    return noisy


def asymmetric_noise(
    labels: NDArray[np.int64], share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Give a share of the samples the label of the next class: systematic errors."""
    flipped = _some(len(labels), share, rng)
    noisy = labels.copy()
    noisy[flipped] = (labels[flipped] + 1) % (int(labels.max()) + 1)
    return noisy


def long_tail(
    labels: NDArray[np.int64], imbalance: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Rows that are left when class sizes fall exponentially, the last to ``1 / imbalance``.

    Args:
        labels (NDArray[np.int64]): ``[N]``.
        imbalance (float): Size of the first class over that of the last.
        rng (np.random.Generator): Draws which rows of a class stay.

    Returns:
        NDArray[np.int64]: Sorted rows.
    """
    sizes = np.bincount(labels)
    decay = imbalance ** (-np.arange(len(sizes)) / (len(sizes) - 1))
    keep = np.maximum(1, (sizes.min() * decay).round().astype(int))
    kept = [
        rng.choice(np.flatnonzero(labels == label), keep[label], replace=False)
        for label in range(len(sizes))
    ]
    return np.sort(np.concatenate(kept))


def duplicated(count: int, share: float, times: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """All rows, and a share of them ``times`` times in all, in random order."""
    again = np.repeat(_some(count, share, rng), times - 1)
    return rng.permutation(np.concatenate([np.arange(count), again]))


def _some(count: int, share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.permutation(count)[: round(share * count)]


Change = Callable[[NDArray[np.int64], np.random.Generator], Condition]


def _noisy(labels: NDArray[np.int64], noisy: NDArray[np.int64]) -> Condition:
    return Condition(np.arange(len(labels)), noisy, noisy != labels)


def _rows(labels: NDArray[np.int64], rows: NDArray[np.int64]) -> Condition:
    return Condition(rows, labels[rows], np.zeros(len(rows), bool))


def _noisy_tail(labels: NDArray[np.int64], rng: np.random.Generator) -> Condition:
    rows = long_tail(labels, 50, rng)
    noisy = symmetric_noise(labels[rows], 0.2, rng)
    return Condition(rows, noisy, noisy != labels[rows])


CONDITIONS: dict[str, Change] = {
    "clean": lambda labels, rng: _rows(labels, np.arange(len(labels))),
    "noise20": lambda labels, rng: _noisy(labels, symmetric_noise(labels, 0.2, rng)),
    "noise40": lambda labels, rng: _noisy(labels, symmetric_noise(labels, 0.4, rng)),
    "asymmetric40": lambda labels, rng: _noisy(labels, asymmetric_noise(labels, 0.4, rng)),
    "tail50": lambda labels, rng: _rows(labels, long_tail(labels, 50, rng)),
    "tail50_noise20": _noisy_tail,
    "duplicates": lambda labels, rng: _rows(labels, duplicated(len(labels), 0.1, 5, rng)),
}
