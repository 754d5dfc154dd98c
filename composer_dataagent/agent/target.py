# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What makes a sample worth training on? It depends on whether labels can be trusted."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from composer_dataagent.agent.state import PROB_EPS

Target = Literal["composite", "entropy", "agreeing", "expected"]
# Of the prediction's probability: a label that gets less is one of many improbable ones, and one
# that gets more is what the model takes for its second choice.
RUNNER_UP = 0.25
Array = TypeVar("Array", bound=Any)  # a NumPy array or a torch tensor


def choose_target(
    label_trust: float,
    plausibility: float,
    gate_fires: bool,
    progress: float,
    trust: float,
    patience: float,
    sequences: bool = False,
) -> Target:
    """Which target suits what the model makes of the labels.

    A hard sample and a wrong label look alike: both have a large loss. While a model fails to
    predict many labels, an agent that wants large losses therefore feeds it the wrong ones. Errors
    at random stand out one by one, and a gate deals with them. Systematic ones do not: the model
    learns the wrong label as its second choice, if not as its first.

    Args:
        label_trust (float): Share of the labels that the model predicts.
        plausibility (float): Of the labels that it does not predict, the median probability over
            that of what it predicts.
        gate_fires (bool): Whether many samples are probably mislabelled, one by one.
        progress (float): Share of training done, in [0, 1].
        trust (float): From this share on, labels are trusted.
        patience (float): Share of training in which the model may just be young.
        sequences (bool): Whether samples are sequences of tokens, of which no label tells whether
            they can be trusted. Default: ``False``.

    Returns:
        Target: ``composite``: the paper's reward; labels are trusted. ``entropy``: uncertain
        samples, whatever their labels; the model is young, or errors are at random: a gate holds
        them back, but those that it does not know yet have large losses, too. ``agreeing``:
        uncertain samples, all the more those whose labels the model agrees with; errors are
        systematic. ``expected``: sequences that are no harder than the model expects, whatever the
        label trust, unless ``trust`` is 0.
    """
    if sequences and trust > 0:
        return "expected"
    if label_trust >= trust:
        return "entropy" if gate_fires else "composite"
    return "entropy" if progress < patience or plausibility < RUNNER_UP else "agreeing"


def is_settled(loss: Array, max_prob: Array) -> Array:
    """Whether nothing can be learned from samples, ``[M]`` bool; NaN is no number that says so."""
    return (loss <= 0) & (max_prob >= 1)


def without_losses(target: Target) -> Target:
    """The target where large losses are not to be wanted: entropy in place of the composite."""
    return "entropy" if target == "composite" else target


def expectedness(loss: NDArray, max_prob: NDArray) -> NDArray:
    """The loss that the model expects, minus the one that it has: 0 in the mean if it is right.

    A sequence that is hard to continue has a large loss, and the model knows. In junk, and where an
    answer is another question's, it is sure of what does not come. A settled sequence comes last:
    it has no token to learn from, or none that the model has left to learn.

    Args:
        loss (NDArray): ``[M]`` in nats.
        max_prob (NDArray): ``[M]`` ``exp`` of minus the expected loss.

    Returns:
        NDArray: ``[M]``.
    """
    expected = -np.log(np.maximum(max_prob, PROB_EPS)) - loss
    return np.where(is_settled(loss, max_prob), -np.inf, expected)


def ranked_by(target: Target, loss: NDArray, entropy: NDArray, max_prob: NDArray) -> NDArray:
    """What :func:`worth` wants the ranks of.

    Args:
        target (Target): See :func:`choose_target`.
        loss (NDArray): ``[M]`` in nats.
        entropy (NDArray): ``[M]``.
        max_prob (NDArray): ``[M]``.

    Returns:
        NDArray: ``[M]`` :func:`expectedness` for ``expected``, else the entropy.
    """
    return expectedness(loss, max_prob) if target == "expected" else entropy


def worth(target: Target, composite: Array, ranks: Array, agreement: Array) -> Array:
    """What each of some samples is worth.

    Args:
        target (Target): See :func:`choose_target`.
        composite (Array): ``[M]`` in [0, 1], the paper's reward.
        ranks (Array): ``[M]`` in [0, 1], of what :func:`ranked_by` gives. (Where labels are noisy
            all entropies are large, and beside the agreement they would not count.)
        agreement (Array): ``[M]`` in [0, 1], running agreement of model and label.

    Returns:
        Array: ``[M]`` in [0, 1].
    """
    if target == "composite":
        return composite
    return ranks * agreement if target == "agreeing" else ranks
