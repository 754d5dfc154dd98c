# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The ledger: what a visit leaves behind, how it travels, and what it weighs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ledgers import any_ledger, make_ledger

from composer_dataagent.selection import LEDGER_COLUMNS, Ledger


def columns(ledger: Ledger) -> dict[str, np.ndarray]:
    return {name: getattr(ledger, name) for name in LEDGER_COLUMNS}


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype
        np.testing.assert_array_equal(first[name], second[name])


def test_a_new_ledger_knows_nothing() -> None:
    ledger = Ledger(5)
    assert len(ledger) == ledger.num_samples == 5
    assert not ledger.seen.any() and ledger.coverage() == ledger.flag_share == 0
    assert np.isnan(ledger.loss).all() and np.isnan(ledger.entropy).all()
    assert (ledger.agreement == 1).all() and (ledger.label == -1).all()
    assert ledger.class_log_share().shape == (0,)
    assert ledger.score is None
    with pytest.raises(ValueError, match="num_samples=0"):
        Ledger(0)


def test_a_sample_takes_27_bytes() -> None:
    ledger = Ledger(1000)
    assert sum(column.nbytes for column in [*columns(ledger).values(), ledger.flagged]) == 27_000
    state = Ledger(1000).state_dict()
    assert sum(t.numel() * t.element_size() for t in state.values()) == 26_000


def test_the_first_visit_in_an_epoch_wins() -> None:
    ledger = Ledger(4)
    ledger.score = np.full(4, np.nan, np.float32)
    given: dict[str, Any] = {
        "loss": np.array([1.0, 2.0, 3.0]),
        "entropy": np.array([0.1, 0.2, 0.3]),
        "label": np.array([5, 6, 7]),
        "score": np.array([0.5, 0.6, 0.7]),
    }
    ledger.record(np.array([2, 0, 2]), 0, **given)  # twice within a batch
    assert ledger.loss[[0, 2]].tolist() == [2.0, 1.0]
    ledger.record(np.array([0, 3, 1]), 0, **given)  # and in another batch of the same epoch
    np.testing.assert_array_equal(ledger.loss, [2, 3, 1, 2])
    np.testing.assert_array_equal(ledger.label, [6, 7, 5, 6])
    np.testing.assert_allclose(ledger.score, [0.6, 0.7, 0.5, 0.6])
    assert ledger.visits.tolist() == [1, 1, 1, 1]

    ledger.record(np.array([0]), 1, np.array([9.0]), np.array([0.9]))
    assert ledger.loss[0] == 9 and ledger.label[0] == 6  # what is not given stays
    assert ledger.visits.tolist() == [2, 1, 1, 1]
    assert ledger.last_seen.tolist() == [1, 0, 0, 0]
    assert ledger.coverage() == 1


@given(data=st.data())
def test_recording_equals_a_plain_loop(data: st.DataObject) -> None:
    ledger = Ledger(8)
    expected: dict[int, tuple[float, int, int]] = {}  # id -> loss, last seen, visits
    for epoch in range(data.draw(st.integers(1, 4), label="epochs")):
        for _ in range(data.draw(st.integers(1, 3), label="batches")):
            ids = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=6), label="ids")
            loss = np.random.default_rng(epoch).random(len(ids)).astype(np.float32)
            ledger.record(np.array(ids), epoch, loss, loss)
            for i, value in zip(ids, loss.tolist(), strict=True):
                _, last_seen, visits = expected.get(i, (0.0, -1, 0))
                if last_seen != epoch:
                    expected[i] = (value, epoch, visits + 1)
    for i in range(8):
        loss_i, last_seen, visits = expected.get(i, (np.nan, -1, 0))
        np.testing.assert_equal(ledger.loss[i], np.float32(loss_i))
        assert (ledger.last_seen[i], ledger.visits[i]) == (last_seen, visits)
    np.testing.assert_array_equal(np.flatnonzero(ledger.seen), sorted(expected))


def test_numbers_that_are_not_finite_are_remembered_as_zero() -> None:
    ledger = Ledger(4)
    loss = np.array([np.nan, np.inf, -np.inf, 2.0])
    ledger.record(np.arange(4), 0, loss, loss)
    assert ledger.seen.all()
    assert ledger.loss.tolist() == ledger.entropy.tolist() == [0, 0, 0, 2]


def test_the_last_visits_are_finite_whatever_was_seen() -> None:
    ledger = Ledger(3)
    visit = {"loss": [2.0], "entropy": [0.5], "max_prob": [0.25], "agreement": [0.75]}
    ledger.record(np.array([1]), 0, **{k: np.array(v, np.float32) for k, v in visit.items()})
    known = ledger.last_visits(np.array([2, 1]))
    assert known.dtype == np.float32
    np.testing.assert_array_equal(known.T, [[0, 0, 1], [2, 0.5, 0.25]])


def test_a_score_is_kept_only_while_there_is_a_place_for_it() -> None:
    ledger = Ledger(2)
    visit = np.array([0.5])
    ledger.record(np.array([1]), 0, visit, visit, score=visit)
    assert ledger.score is None


def test_the_last_epoch_that_fits_is_counted_and_the_next_refused() -> None:
    ledger = Ledger(1)
    visit = (np.array([1.0]), np.array([0.5]))
    ledger.visits[0] = 32766  # seen in each epoch so far
    ledger.record(np.array([0]), 32766, *visit)
    assert ledger.last_seen[0] == 32766 and ledger.visits[0] == 32767
    for epoch in (32767, 32768, -1):
        with pytest.raises(ValueError, match=rf"epoch={epoch} .*from 0 to 32766"):
            ledger.record(np.array([0]), epoch, *visit)


def test_the_digest_tells_any_two_ledgers_apart() -> None:
    visit = np.array([0.5])
    digests = {Ledger(3).digest(), Ledger(4).digest()}
    assert Ledger(3).digest() in digests
    for change in (
        {},
        {"loss": visit + 1},
        {"label": np.array([2])},
        {"agreement": visit},
        {"max_prob": visit},
    ):
        ledger = Ledger(3)
        ledger.record(np.array([1]), 0, **{"loss": visit, "entropy": visit, **change})
        digests.add(ledger.digest())
    assert len(digests) == 7


@given(ledger=any_ledger())
def test_the_state_survives_a_checkpoint(ledger: Ledger) -> None:
    file = io.BytesIO()
    torch.save(ledger.state_dict(), file)
    file.seek(0)
    restored = Ledger(len(ledger))
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert_same(columns(restored), columns(ledger))
    restored.refresh_flags()
    np.testing.assert_array_equal(restored.flagged, ledger.flagged)


def test_a_restored_ledger_shares_no_memory_with_its_source() -> None:
    source, restored = make_ledger(5), Ledger(5)
    restored.load_state_dict(source.state_dict())
    restored.loss[:] = 7
    assert (source.loss != 7).all()


def test_a_ledger_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="knows 6 samples, this one 5"):
        Ledger(5).load_state_dict(Ledger(6).state_dict())


def test_the_log_share_of_classes() -> None:
    ledger = make_ledger(8, unseen=1, label=np.array([3, 0, 0, 0, 2, 2, -1, -1]))
    np.testing.assert_allclose(np.exp(ledger.class_log_share()), [3 / 5, 1, 2 / 5])
    assert ledger.class_log_share().dtype == np.float32


def test_a_score_that_comes_after_its_visit_is_kept() -> None:
    ledger = Ledger(2)
    ledger.score = np.full(2, np.nan, np.float32)
    ids, zeros = np.arange(2), np.zeros(2)
    ledger.record(ids, 0, zeros, zeros)  # fit() ended inside the epoch
    ledger.record(ids, 0, zeros, zeros, score=np.array([0.25, 0.5]))  # the next one learned from it
    assert ledger.score.tolist() == [0.25, 0.5]
    assert ledger.visits.tolist() == [1, 1]
