# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which samples probably carry a wrong label."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

# A sample is flagged while its running agreement is below this.
MISLABEL_THRESHOLD = 0.2
# The gate opens when at least this share of all samples is flagged: a few hard samples on clean
# data must not change anything.
MISLABEL_GATE_SHARE = 0.06
# Keeps the ratio of two probabilities that both underflowed to 0 defined, as 1: there is no
# contradiction. Far below any probability that training meets.
PROB_EPS = 1e-30
# Of two logarithms: the probabilities of label and prediction reach us by different roundings.
_EQUAL = 1e-3

Array = TypeVar("Array")  # a NumPy array or a torch tensor


def update_agreement(old: Array, target_prob: Array, max_prob: Array) -> Array:
    """Running agreement of model and label, ``old / 2 + (p_y / max p) / 2``.

    Args:
        old (Array): ``[B]`` agreement before this visit; 1 for a sample never seen.
        target_prob (Array): ``[B]`` float32 or float64 probability of the label.
        max_prob (Array): ``[B]`` probability of the predicted class, at least ``target_prob``.

    Returns:
        Array: ``[B]`` in [0, 1].
    """
    relative = (target_prob + PROB_EPS) / (max_prob + PROB_EPS)  # type: ignore[operator]
    return 0.5 * old + 0.5 * relative  # type: ignore[operator]


def label_trust(
    loss: NDArray, max_prob: NDArray, label: NDArray, seen: NDArray[np.bool_]
) -> tuple[float, float]:
    """How far the model goes with the labels, at each sample's last visit.

    Args:
        loss (NDArray): ``[N]`` cross entropy in nats.
        max_prob (NDArray): ``[N]`` probability of the predicted class.
        label (NDArray): ``[N]`` integer label, -1 where unknown (left out).
        seen (NDArray[np.bool_]): ``[N]`` whether the sample was ever seen (others are left out).

    Returns:
        tuple[float, float]: In [0, 1] both. Trust: the share of labels that were the predicted
        class. Plausibility: the median of ``p_y / max p`` over the others. It is small where labels
        are wrong at random, each one of many improbable ones, and large where errors are systematic
        or classes hard to tell apart: the label is the model's second choice. Both are 1 where
        there is nothing to distrust.
    """
    known = seen & (label >= 0)
    # log(max p / p_y)
    gap = loss[known] + np.log(np.maximum(max_prob[known], PROB_EPS))
    contradicted = gap[gap > _EQUAL]
    if not len(contradicted):
        return 1.0, 1.0
    return 1 - len(contradicted) / len(gap), float(np.exp(-np.median(contradicted)))


def mislabel_flags(
    agreement: NDArray,
    label: NDArray,
    seen: NDArray[np.bool_],
    threshold: float = MISLABEL_THRESHOLD,
) -> NDArray[np.bool_]:
    """Flag samples whose label the model keeps contradicting.

    A class of which more than half would be flagged is not flagged at all: then the model has not
    learned the class (a rare one, say), and that says nothing about labels.

    Args:
        agreement (NDArray): ``[N]`` running agreement, see :func:`update_agreement`.
        label (NDArray): ``[N]`` integer label, -1 where unknown (never flagged).
        seen (NDArray[np.bool_]): ``[N]`` whether the sample was ever seen.
        threshold (float): Flag below this. Default: ``0.2``.

    Returns:
        NDArray[np.bool_]: ``[N]``.
    """
    known = seen & (label >= 0)
    flags = known & (agreement < threshold)
    if flags.any():
        per_class = np.bincount(label[known])
        flagged_per_class = np.bincount(label[flags], minlength=len(per_class))
        doubtful = flagged_per_class * 2 > per_class
        flags[known] &= ~doubtful[label[known]]
    return flags
