# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is said of samples that nobody has seen."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from composer_dataagent.selection import Ledger, foresee
from composer_dataagent.selection.foresight import PRIOR, shard_means


@given(
    st.lists(st.tuples(st.floats(-10, 10), st.integers(0, 4)), min_size=1, max_size=60),
    st.lists(st.floats(1, 1e6), min_size=5, max_size=5),
)
def test_means_are_finite_and_know_no_order(
    seen: list[tuple[float, int]], length: list[float]
) -> None:
    values, shard = np.array([v for v, _ in seen]), np.array([s for _, s in seen])
    stream = np.array([0, 0, 0, 1, 1])
    means = shard_means(values, shard, stream, np.array(length))
    assert np.isfinite(means).all()
    back = shard_means(values[::-1], shard[::-1], stream, np.array(length))
    np.testing.assert_allclose(means, back, atol=1e-6)


def test_a_shard_counts_for_itself_the_more_of_it_was_seen() -> None:
    stream, length = np.zeros(3, int), np.ones(3)
    shard = np.repeat([0, 1], [1000, 1000])
    values = np.repeat([0.0, 1.0], [1000, 1000])
    low, high, unseen = shard_means(values, shard, stream, length)
    assert low < 0.02 and high > 0.98 and abs(unseen - 0.5) < 1e-9
    shard, values = np.repeat([0, 1], [1000, int(PRIOR)]), np.repeat([0.0, 1.0], [1000, int(PRIOR)])
    few = shard_means(values, shard, stream, length)[1]
    assert abs(few - 0.5) < 0.05


def test_unseen_shards_follow_stream_and_length() -> None:
    rng = np.random.default_rng(0)
    length = np.exp(rng.normal(size=40))
    stream = np.repeat([0, 1], 20)
    shard = np.repeat(np.arange(0, 40, 2), 50)  # of every other one
    truth = 0.3 * np.log(length) + stream
    means = shard_means(truth[shard] + rng.normal(0, 0.1, len(shard)), shard, stream, length)
    unseen = np.arange(1, 40, 2)
    assert np.corrcoef(means[unseen], truth[unseen])[0, 1] > 0.95


def test_foresee_compares_with_others_of_the_round() -> None:
    """A shard that was seen late, when all losses were smaller, is not taken for an easy one."""
    ledger = Ledger(400)
    shard = np.arange(400) // 100
    loss_of_shard = np.array([1.0, 0.0, 1.0, 0.0])
    for at, level in enumerate((5.0, 1.0)):
        of_round = slice(200 * at, 200 * at + 200)
        ids = np.arange(400)[of_round][::2]
        ledger.record(ids, at, level + loss_of_shard[shard[ids]], np.full(len(ids), 0.5))
    candidates = ledger.rows(np.arange(1, 400, 2), rounds=10)
    assert not candidates.seen.any()
    foresee(ledger, candidates, shard[::2], shard[1::2], np.zeros(4, int), np.ones(4))
    assert candidates.seen.all() and (candidates.last_seen == 0).all()
    mean = [candidates.loss[shard[1::2] == s].mean() for s in range(4)]
    assert min(mean[0], mean[2]) > max(mean[1], mean[3]) + 0.5
    assert np.allclose(candidates.entropy, 0.5)


def test_foresee_leaves_what_was_seen_and_knows_nothing_of_nothing() -> None:
    ledger = Ledger(10)
    candidates = ledger.rows(np.arange(10), rounds=3)
    zeros = np.zeros(10, int)
    foresee(ledger, candidates, zeros[:0], zeros, np.zeros(1, int), np.ones(1))
    assert not candidates.seen.any()
    ledger.record(np.arange(4), 7, np.full(4, 2.0), np.full(4, 0.1))
    candidates = ledger.rows(np.arange(10), rounds=3)
    foresee(ledger, candidates, zeros[:4], zeros, np.zeros(1, int), np.ones(1))
    assert (candidates.last_seen == 2).all()
    assert np.allclose(candidates.loss[:4], 2.0)


def test_rows_are_a_copy() -> None:
    ledger = Ledger(5)
    ledger.record(np.array([1, 3]), 6, np.ones(2), np.ones(2))
    ledger.score = np.arange(5, dtype=np.float32)
    rows = ledger.rows(np.array([3, 4]), rounds=4)
    assert rows.last_seen.tolist() == [1, -1] and rows.score is not None
    assert rows.score.tolist() == [3, 4]
    rows.loss[:] = 9
    assert ledger.loss[3] == 1
