# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Selections on disk, and the arithmetic from ids to shards: laws over any sizes."""

from __future__ import annotations

import pickle
import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer_dataagent.streaming import SelectionMissingError
from composer_dataagent.streaming.attach import to_mask
from composer_dataagent.streaming.shard_index import samples_by_shard, shuffle_units
from composer_dataagent.streaming.store import SelectionStore

masks = st.lists(st.booleans(), min_size=1, max_size=200).map(np.array)


@st.composite
def shards_and_ids(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.array(draw(st.lists(st.integers(1, 30), min_size=1, max_size=8)), np.int64)
    ids = draw(st.sets(st.integers(0, int(sizes.sum()) - 1)))
    return sizes, np.array(sorted(ids), np.int64)


@given(masks, st.integers(0, 10**9))
def test_what_was_published_is_read(mask: np.ndarray, epoch: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = SelectionStore(folder, len(mask))
        record = store.publish(mask, epoch)
        for reader in (store, pickle.loads(pickle.dumps(store))):
            ids, found = reader.read(epoch)
            np.testing.assert_array_equal(ids, np.flatnonzero(mask))
            assert ids.dtype == np.int32 and found == record
        assert (record.epoch, record.num_samples, record.size) == (epoch, len(mask), mask.sum())


@given(masks)
def test_the_digest_is_that_of_the_selection_alone(mask: np.ndarray) -> None:
    digests = set()
    for epoch in (0, 5, None):
        with tempfile.TemporaryDirectory() as folder:
            digests.add(SelectionStore(folder, len(mask)).publish(mask, epoch).digest)
            mask[0] = not mask[0]
            assert SelectionStore(folder, len(mask)).publish(mask, epoch).digest not in digests
            mask[0] = not mask[0]
    assert len(digests) == 1


@given(st.sets(st.integers(0, 30)), st.integers(0, 30), st.integers(0, 30))
def test_keep_only(published: set[int], first: int, stop: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = SelectionStore(folder, 9)
        for epoch in published:
            store.publish(np.ones(9, bool), epoch)
        store.keep_only(range(first, stop))
        for epoch in range(31):
            if epoch in published and first <= epoch < stop:
                assert store.read(epoch)[1].epoch == epoch
            else:
                with pytest.raises(SelectionMissingError, match=rf"epoch {epoch} "):
                    store.read(epoch)


def test_the_standing_selection_serves_where_there_is_no_other(tmp_path) -> None:
    store = SelectionStore(str(tmp_path), 9)
    assert not store.has_standing()
    store.publish(np.arange(9) < 3, 4)
    store.publish(np.arange(9) < 5, None)
    assert store.has_standing()
    store.keep(2)
    store.keep(4)
    store.publish(np.arange(9) < 7, None)
    assert [len(store.read(epoch)[0]) for epoch in (1, 2, 3, 4)] == [7, 5, 7, 3]


@given(shards_and_ids())
def test_units_are_the_counts_of_the_shards_used(case: tuple[np.ndarray, np.ndarray]) -> None:
    sizes, ids = case
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    expected = np.bincount(shard_of[ids], minlength=len(sizes))
    np.testing.assert_array_equal(samples_by_shard(ids, sizes), expected)
    units = shuffle_units(ids, sizes)
    assert units.dtype == np.int64 and (units > 0).all() and units.sum() == len(ids)
    np.testing.assert_array_equal(units, expected[expected > 0])


@given(shards_and_ids())
def test_all_samples_give_all_shards(case: tuple[np.ndarray, np.ndarray]) -> None:
    sizes, _ = case
    np.testing.assert_array_equal(shuffle_units(np.arange(sizes.sum()), sizes), sizes)


@given(masks.filter(lambda mask: mask.any()), st.randoms(use_true_random=False))
def test_masks_and_ids_in_any_order_are_the_same(mask: np.ndarray, random) -> None:
    ids = np.flatnonzero(mask).tolist()
    random.shuffle(ids)
    np.testing.assert_array_equal(to_mask(ids, len(mask)), mask)
    np.testing.assert_array_equal(to_mask(mask, len(mask)), mask)
