# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which samples are flagged as probably mislabelled, and which never are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from composer_dataagent.selection import label_trust, mislabel_flags, update_agreement


def flags_of(agreement: list[float], label: list[int], unseen: tuple[int, ...] = ()) -> list[int]:
    """Indices of the flagged samples."""
    seen = ~np.isin(np.arange(len(label)), unseen)
    return np.flatnonzero(mislabel_flags(np.array(agreement), np.array(label), seen)).tolist()


def test_low_agreement_is_flagged() -> None:
    assert flags_of([0.19, 0.2, 0.9, 1.0], [0, 0, 0, 0]) == [0]
    assert flags_of([0.5, 0.9], [0, 1]) == []


def test_unknown_labels_and_unseen_samples_never_are() -> None:
    assert flags_of([0.1, 0.9, 0.9, 0.1], [-1, 0, 0, 0]) == [3]
    assert flags_of([0.1, 0.9, 0.9], [0, 0, 0], unseen=(0,)) == []
    assert flags_of([0.1, 0.1], [-1, -1]) == []


def test_a_class_that_is_mostly_contradicted_is_not_flagged() -> None:
    # Class 0: half of it is; class 1: more than half, so the model does not know the class.
    agreement = [0.1, 0.1, 0.9, 0.9, *(0.1, 0.1, 0.9)]
    label = [0, 0, 0, 0, *(1, 1, 1)]
    assert flags_of(agreement, label) == [0, 1]
    # Unseen samples of a class have no say.
    assert flags_of([*agreement, 1.0, 1.0], [*label, 1, 1], unseen=(7, 8)) == [0, 1]


@given(data=st.data(), count=st.integers(1, 60))
def test_flags_are_what_their_definition_says(data: st.DataObject, count: int) -> None:
    agreement = data.draw(arrays(np.float32, count, elements=st.floats(0, 1, width=32)))
    label = data.draw(arrays(np.int32, count, elements=st.integers(-1, 3)))
    seen = data.draw(arrays(bool, count))
    flags = mislabel_flags(agreement, label, seen)
    for i in range(count):
        peers = seen & (label == label[i])
        doubtful = (agreement[peers] < 0.2).sum() * 2 > peers.sum()
        expected = seen[i] and label[i] >= 0 and agreement[i] < 0.2 and not doubtful
        assert flags[i] == expected


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_agreement_is_a_running_mean_that_starts_at_one(make: Any) -> None:
    agreement = make([1.0, 1.0, 1.0])
    for _ in range(3):  # always right, always wrong, wrong by half
        agreement = update_agreement(agreement, make([0.7, 0.0, 0.4]), make([0.7, 0.9, 0.8]))
    np.testing.assert_allclose(agreement, [1.0, 0.125, 0.5 + 0.125 / 2], atol=1e-6)


def test_three_contradictions_in_a_row_make_a_flag_and_one_agreement_lifts_it() -> None:
    agreement, history = np.array([1.0]), []
    for target_prob in (0.0, 0.0, 0.0, 1.0):
        agreement = update_agreement(agreement, np.array([target_prob]), np.array([1.0]))
        history.append(bool(agreement[0] < 0.2))
    assert history == [False, False, True, False]


def test_probabilities_that_underflowed_contradict_nothing() -> None:
    zero = torch.zeros(2)  # a loss of 200, say, from signals without max_prob
    assert update_agreement(torch.ones(2), zero, zero).tolist() == [1, 1]
    assert update_agreement(torch.ones(2), zero, zero + 0.5).tolist() == [0.5, 0.5]


# ---------------------------------------------------------------------- trust in labels


def test_trust_is_the_share_of_labels_that_were_predicted_and_how_near_others_came() -> None:
    target_prob = np.array([0.9, 0.3, 0.01, 0.2, 0.1, 0.1], np.float32)
    max_prob = np.array([0.9, 0.6, 0.8, 0.5, 0.9, 0.9], np.float32)
    label, seen = np.array([0, 1, 1, 2, -1, 2]), np.array([1, 1, 1, 1, 1, 0], bool)
    loss = -np.log(target_prob)
    # The first was predicted, the last two are not known.
    assert label_trust(loss, max_prob, label, seen) == pytest.approx((0.25, 0.2 / 0.5))
    nothing_to_distrust = (1.0, 1.0)
    assert label_trust(loss[:1], max_prob[:1], label[:1], seen[:1]) == nothing_to_distrust
    assert label_trust(loss, max_prob, label, np.zeros(6, bool)) == nothing_to_distrust
    assert label_trust(loss, max_prob, np.full(6, -1), seen) == nothing_to_distrust
