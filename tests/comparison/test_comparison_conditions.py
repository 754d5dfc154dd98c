# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a comparison does to clean labels, as laws."""

from __future__ import annotations

import numpy as np
import pytest
from comparison.conditions import (
    CONDITIONS,
    asymmetric_noise,
    duplicated,
    long_tail,
    symmetric_noise,
)
from hypothesis import given
from hypothesis import strategies as st


@st.composite
def labelled(draw: st.DrawFn) -> np.ndarray:
    """Labels of 2 to 12 classes, each of them there."""
    classes = draw(st.integers(2, 12))
    sizes = draw(st.lists(st.integers(1, 60), min_size=classes, max_size=classes))
    return np.random.default_rng(draw(st.integers(0, 9))).permutation(
        np.repeat(np.arange(classes), sizes)
    )


SHARES = st.floats(0, 1)


@given(labels=labelled(), share=SHARES, seed=st.integers(0, 9))
def test_noise_changes_exactly_its_share(labels: np.ndarray, share: float, seed: int) -> None:
    classes = labels.max() + 1
    for noise in (symmetric_noise, asymmetric_noise):
        noisy = noise(labels, share, np.random.default_rng(seed))
        assert (noisy != labels).sum() == round(share * len(labels))
        assert noisy.min() >= 0 and noisy.max() < classes
    wrong = noisy != labels
    assert np.array_equal(noisy[wrong], (labels[wrong] + 1) % classes)  # of the last, asymmetric


def test_symmetric_noise_goes_to_all_other_classes_alike() -> None:
    labels = np.zeros(30_000, np.int64)
    labels[-1] = 4
    noisy = symmetric_noise(labels, 0.4, np.random.default_rng(0))
    assert np.allclose(np.bincount(noisy)[1:] / len(labels), 0.1, atol=0.01)


@given(labels=labelled(), imbalance=st.floats(1, 100), seed=st.integers(0, 9))
def test_a_long_tail_falls_and_has_every_class(
    labels: np.ndarray, imbalance: float, seed: int
) -> None:
    rows = long_tail(labels, imbalance, np.random.default_rng(seed))
    assert len(np.unique(rows)) == len(rows)
    sizes = np.bincount(labels[rows], minlength=labels.max() + 1)
    assert (np.diff(sizes) <= 0).all() and sizes.min() >= 1
    smallest = np.bincount(labels).min()
    assert sizes[0] == smallest and sizes[-1] == max(1, round(smallest / imbalance))


@given(count=st.integers(1, 200), share=SHARES, times=st.integers(1, 6))
def test_duplicates_are_there_as_often_as_said(count: int, share: float, times: int) -> None:
    found = np.bincount(duplicated(count, share, times, np.random.default_rng(0)))
    again = round(share * count)
    assert sorted(found) == sorted([1] * (count - again) + [times] * again)


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_is_that_of_its_seed(name: str) -> None:
    labels = np.random.default_rng(0).integers(0, 10, 2_000)
    first, again, other = (
        CONDITIONS[name](labels, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.rows, again.rows) and np.array_equal(first.labels, again.labels)
    if name != "clean":
        assert not (
            np.array_equal(first.rows, other.rows) and np.array_equal(first.labels, other.labels)
        )
    assert np.array_equal(first.wrong, first.labels != labels[first.rows])
    share = {"noise20": 0.2, "noise40": 0.4, "asymmetric40": 0.4, "tail50_noise20": 0.2}
    assert first.wrong.mean() == pytest.approx(share.get(name, 0), abs=0.002)
