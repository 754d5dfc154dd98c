# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Rare classes and samples that were not seen for long are picked whatever their score."""

from __future__ import annotations

import tracemalloc
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer_dataagent.selection import Ledger, build_selector
from composer_dataagent.selection.guards import fill_classes, overdue, promote
from composer_dataagent.selection.gumbel import top_k


@given(
    label=st.lists(st.integers(-1, 4), min_size=1, max_size=80),
    share=st.floats(0, 1),
    data=st.data(),
)
def test_each_class_keeps_its_floor_and_its_best(
    label: list[int], share: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(label)))
    labels = np.array(label, np.int32)
    keys = np.random.default_rng(data.draw(st.integers(0, 99))).random(len(label))
    before = keys.copy()
    chosen = fill_classes(top_k(keys, k), keys, labels, share)
    assert len(chosen) == k and (np.diff(chosen) > 0).all()
    classes = np.unique(labels[labels >= 0])
    for one in classes if len(classes) > 1 else []:
        members = np.flatnonzero(labels == one)
        equal = k / len(classes)
        floor = len(members) if len(members) <= equal else int(share * equal)
        picked = np.intersect1d(chosen, members)
        assert len(picked) >= floor
        # Of a class, none stays behind that ranks before one that is picked.
        assert set(picked) == set(members[np.argsort(-before[members])[: len(picked)]])


def test_floors_that_hold_change_nothing() -> None:
    keys = np.random.default_rng(0).random(100)

    def unchanged(label: np.ndarray, k: int, share: float) -> bool:
        chosen = top_k(keys, k)
        return bool((fill_classes(chosen, keys, label.astype(np.int32), share) == chosen).all())

    assert unchanged(np.arange(100) // 50, 50, 0.1)
    assert unchanged(np.zeros(100), 50, 1.0)
    assert unchanged(np.full(100, -1), 50, 1.0)
    assert unchanged(np.arange(100) // 2, 1, 1.0)  # more classes than are picked


def test_promoted_rows_come_first_in_their_own_order() -> None:
    keys = np.array([3.0, 9.0, -2.0, 4.0], np.float32)
    promote(keys, np.array([True, False, True, False]))
    assert np.argsort(-keys).tolist() == [0, 2, 1, 3]


def test_overdue_are_the_oldest_and_no_more_than_needed() -> None:
    last_seen = np.array([9, 8, 7, 6, 5], np.int16)
    assert overdue(last_seen, 2).tolist() == [False, False, True, True, True]
    # Two have three and four epochs left: one of them is picked now.
    assert overdue(last_seen, 7).tolist() == [False, False, False, False, True]
    assert not overdue(last_seen, 8).any()
    assert not overdue(last_seen, 10).any()
    assert overdue(last_seen, 2, spared=last_seen == 6).tolist() == [
        False,
        False,
        True,
        False,
        True,
    ]
    assert not overdue(np.full(3, -1, np.int16), 2).any()
    assert not overdue(last_seen, 10**6).any()
    # Two hundred of one age, to be picked within ten epochs: some from everywhere.
    many = np.r_[np.zeros(200), 10].astype(np.int16)
    assert not overdue(many, 20).any()
    due = np.flatnonzero(overdue(many, 19))
    assert len(due) == ceil(200 / 10) and set(np.diff(due)) == {10}


def run_epochs(
    epochs: int, flagged: np.ndarray | None = None, ratio: float = 0.5, **arguments: Any
) -> np.ndarray:
    """The longest time that each of 200 samples was left out, when scores never change."""
    selector = build_selector({"name": "data_agent", "explore": None, **arguments})
    ledger = Ledger(200)
    ledger.score = np.linspace(0, 1, 200, dtype=np.float32)
    ids, rng = np.arange(200), np.random.default_rng(0)
    left_out, longest = np.zeros(200, int), np.zeros(200, int)
    for epoch in range(epochs):
        ledger.record(ids, epoch, np.zeros(len(ids)), np.zeros(len(ids)))
        if flagged is not None:
            ledger.set_flags(flagged)
        ids = selector.select(ledger, round(200 * ratio), rng).ids
        left_out += 1
        left_out[ids] = 0
        longest = np.maximum(longest, left_out)
    return longest


@given(ratio=st.floats(0.05, 0.95), max_age=st.floats(2, 12))
def test_no_sample_is_left_out_for_longer_than_its_limit(ratio: float, max_age: float) -> None:
    limit = ceil(max_age * 200 / round(200 * ratio))
    assert run_epochs(2 * limit + 3, ratio=ratio, max_age=max_age).max() <= limit


def test_by_default_that_is_ten_times_what_it_would_be_if_all_were_trained_alike() -> None:
    assert run_epochs(60).max() == 20
    assert run_epochs(250, ratio=0.1).max() == 100
    assert run_epochs(60, max_age=None)[0] == 60


def test_but_one_that_the_gate_holds_back() -> None:
    flagged = np.arange(200) % 10 == 0
    longest = run_epochs(30, flagged, max_age=2)
    assert (longest[flagged] == 30).all()
    assert longest[~flagged].max() == 4


@pytest.mark.parametrize("ratio", [0.5, 0.1])
def test_overdue_samples_leave_most_of_a_selection_to_the_score(ratio: float) -> None:
    count = 4_000
    ledger = Ledger(count)
    ledger.score = np.linspace(0, 1, count, dtype=np.float32)
    ids, rng = np.arange(count), np.random.default_rng(0)
    selector = build_selector("data_agent")
    ranks = []
    for epoch in range(round(20 / ratio)):
        ledger.record(ids, epoch, np.zeros(len(ids)), np.zeros(len(ids)))
        ids = selector.select(ledger, round(count * ratio), rng).ids
        ranks.append(ledger.score[ids].mean())
    assert min(ranks) > 0.8 * max(ranks)


def test_one_float_a_sample_is_all_that_selecting_takes_beside_the_result() -> None:
    count = 1 << 22
    rng = np.random.default_rng(0)
    ledger = Ledger(count)
    ledger.record(np.arange(count), 0, np.zeros(count), np.zeros(count))
    ledger.label[:] = rng.integers(0, 1_000, count)
    ledger.score = rng.random(count, np.float32)
    ledger.last_seen[:] = np.where(rng.random(count) < 0.1, 5, 25)  # some are overdue
    ledger.set_flags(rng.random(count) < 0.1)
    selector = build_selector("data_agent")
    tracemalloc.start()
    try:
        ids = selector.select(ledger, count // 2, rng).ids
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - ids.nbytes < 5 * count
