# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The samples worth a look: whose labels are doubted, hardest, most and least chosen."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from composer_dataagent.report import choose_samples
from composer_dataagent.report.examples import (
    HARDEST,
    LEAST_CHOSEN,
    MISLABELLED,
    MOST_CHOSEN,
    suspects,
)

NAN = np.nan


def test_the_most_and_the_least_chosen() -> None:
    visits = np.array([3, 1, 3, 0, 2, 0, 1, 3], np.int16)
    found = choose_samples({"visits": visits}, count=3)
    assert found == {MOST_CHOSEN: [0, 2, 7], LEAST_CHOSEN: [3, 5, 1]}
    score = np.array([0.1, 0.9, 0.5, NAN, 0, 0.2, 0.3, NAN], np.float32)
    found = choose_samples({"visits": visits, "score": score}, count=3)
    assert found == {MOST_CHOSEN: [2, 0, 7], LEAST_CHOSEN: [3, 5, 6]}
    most, least = choose_samples({"visits": visits}).values()
    assert len(most) == len(least) == 4 and not set(most) & set(least)


def test_where_nobody_was_chosen_there_is_no_list() -> None:
    assert choose_samples({}) == {}
    for visits in ([], [3], [2, 2, 2]):
        assert choose_samples({"visits": np.array(visits, np.int16)}) == {}


def test_the_most_contradicted_label_comes_first() -> None:
    ledger = {
        "flagged": np.array([True, False, True, True, False, True]),
        # Of the label: e^-1 against 0.9, e^-5 against 0.5, e^-4.7 against 0.9.
        "loss": np.array([1.0, 9.0, 5.0, 4.7, NAN, 1.0], np.float32),
        "max_prob": np.array([0.9, 1.0, 0.5, 0.9, NAN, 0.9], np.float32),
    }
    assert suspects(ledger).tolist() == [3, 2, 0, 5]
    assert choose_samples(ledger, count=1) == {MISLABELLED: [3, 2], HARDEST: [1]}
    for name in ledger:
        assert not len(suspects({key: ledger[key] for key in ledger if key != name}))


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 50), st.floats(0.1, 1)), max_size=30))
def test_all_that_are_flagged_are_listed_once(rows: list[tuple[bool, float, float]]) -> None:
    flagged, loss, max_prob = np.array(rows or np.empty((0, 3))).T
    ledger = {"flagged": flagged.astype(bool), "loss": loss, "max_prob": max_prob}
    found = suspects(ledger)
    assert sorted(found) == np.flatnonzero(flagged).tolist()
    ratio = np.log(max_prob[found]) + loss[found]
    assert (np.diff(ratio) <= 1e-6).all()


def test_hardest_are_those_of_largest_loss_that_are_not_settled() -> None:
    ledger = {"loss": np.array([0.1, NAN, 2.0, 0.0, 0.7], np.float32)}
    assert choose_samples(ledger) == {HARDEST: [2, 4, 0]}
