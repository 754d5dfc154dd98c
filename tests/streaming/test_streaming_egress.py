# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a selection makes a run read, against loops over samples and the ranges of real offsets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from composer_dataagent.streaming import egress
from composer_dataagent.streaming.costs import Costs
from composer_dataagent.streaming.egress import ShardSizes, droppable, forget, hold, map_reads
from composer_dataagent.streaming.shard_index import ids_of, samples_by_shard
from composer_dataagent.streaming.spans import coalesce, header_size

HUGE = 1e9  # dollars per million requests: none is worth a gap


def costs_of(gap: float) -> Costs:
    """Costs by which a request is worth that many bytes."""
    return Costs(dollars_per_gb=1.0, dollars_per_million_requests=gap / 1e3)


def sizes_of(samples: list[int], sample_bytes: list[int], **more: Any) -> ShardSizes:
    count = np.array(samples, np.int64)
    raw = count * sample_bytes + 4 * (count + 2)
    ones = np.ones(len(count), np.int64)
    return replace(ShardSizes(count, raw, raw, ones.astype(bool), ones), **more)


@st.composite
def cases(draw: Any, equal: bool = True) -> tuple[ShardSizes, NDArray[np.int64], Costs]:
    shards = draw(st.integers(1, 6))
    samples = draw(st.lists(st.integers(1, 30), min_size=shards, max_size=shards))
    each = draw(st.lists(st.integers(1, 50), min_size=shards, max_size=shards))
    sizes = sizes_of(samples, each)
    if not equal:
        more = draw(st.lists(st.integers(0, 7), min_size=shards, max_size=shards))
        raw = sizes.raw + np.array(more)
        sizes = replace(sizes, raw=raw, stored=raw)
    ids = draw(st.sets(st.integers(0, sum(samples) - 1)))
    return sizes, np.array(sorted(ids), np.int64), costs_of(draw(st.integers(0, 200)))


def bitmap(ids: NDArray[np.int64], sizes: ShardSizes) -> NDArray[np.uint8]:
    mask = np.zeros(sizes.num_samples, bool)
    mask[ids] = True
    return np.packbits(mask)


@pytest.fixture(autouse=True, params=[7, egress._AT_ONCE], ids=["in pieces", "at once"])
def at_once(request: pytest.FixtureRequest) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(egress, "_AT_ONCE", request.param)
        yield


@given(cases())
def test_equal_samples_are_read_as_the_ranges_of_their_offsets_are(case: Any) -> None:
    sizes, ids, costs = case
    reads = map_reads(ids, sizes, costs)
    for shard, (start, count) in enumerate(zip(sizes.starts, sizes.samples, strict=False)):
        within = ids[(ids >= start) & (ids < start + count)] - start
        header = header_size(int(count))
        offsets = header + np.arange(count + 1) * int(sizes.bodies[shard] // count)
        assert offsets[-1] == sizes.raw[shard]
        spans = coalesce(within, offsets, costs.gap)
        assert reads.ranges[shard] == len(spans)
        read = sum(end - begin for begin, end in spans) + header * (len(within) > 0)
        assert reads.ranged_bytes[shard] == read
        assert reads.ranged_requests[shard] == len(spans) + (len(within) > 0)
        whole = costs.whole_is_cheaper(len(spans) + 1, read, int(sizes.raw[shard]))
        assert reads.whole[shard] == (len(within) > 0 and whole)


@given(cases(equal=False), st.sets(st.integers(0, 179)))
def test_a_loop_over_samples_finds_the_same(case: Any, there: set[int]) -> None:
    sizes, ids, costs = case
    held = {at for at in there if at < sizes.num_samples}
    reads = map_reads(ids, sizes, costs, bitmap(np.array(sorted(held), np.int64), sizes))
    chosen = set(ids.tolist())
    for shard, count in enumerate(sizes.samples.tolist()):
        start, body = int(sizes.starts[shard]), int(sizes.bodies[shard])
        ranges, covered, previous = 0, 0, None
        of_shard = range(start, start + count)
        for at in of_shard:
            if at not in chosen or at in held:
                continue
            between = None if previous is None else at - previous - 1
            if between is not None and between * body <= costs.gap * count:
                covered += between
            else:
                ranges += 1
            covered += 1
            previous = at
        header = ranges > 0 and not held & set(of_shard)
        assert reads.selected[shard] == len(chosen & set(of_shard))
        assert reads.missing[shard] == len((chosen - held) & set(of_shard))
        assert reads.ranges[shard] == ranges
        assert reads.ranged_requests[shard] == ranges + header
        read = covered * body // count + header * header_size(count)
        assert reads.ranged_bytes[shard] == read


@given(cases(equal=False))
def test_ids_and_bitmaps_give_the_same(case: Any) -> None:
    sizes, ids, costs = case
    bits = bitmap(ids, sizes)
    assert np.array_equal(ids_of(bits, sizes.num_samples), ids)
    given = [map_reads(kind, sizes, costs) for kind in (ids, ids.astype(np.int32), bits)]
    for other in given[1:]:
        for name, value in vars(given[0]).items():
            assert np.array_equal(value, getattr(other, name)), name


@given(cases())
def test_what_follows_for_a_run(case: Any) -> None:
    sizes, ids, costs = case
    reads = map_reads(ids, sizes, costs)
    assert np.array_equal(reads.selected, samples_by_shard(ids, sizes.samples))
    assert np.array_equal(droppable(ids, sizes), ~reads.needed)
    assert np.array_equal(droppable(bitmap(ids, sizes), sizes), ~reads.needed)

    whole, ranged = (reads.bytes_by_shard(fetch) for fetch in ("shards", "samples"))
    assert np.array_equal(whole, np.where(reads.needed, sizes.stored, 0))
    # What is selected, and never more than the shard.
    assert (ranged >= reads.selected * sizes.bodies // sizes.samples).all()
    assert (ranged <= whole).all()

    def price(fetch: str) -> NDArray:
        requests = reads.requests_by_shard(fetch) * costs.per_request
        return requests + reads.bytes_by_shard(fetch) * costs.per_byte

    # Whole shards are the fallback: samples never cost more than they do.
    assert (price("samples") <= price("shards") * (1 + 1e-12)).all()


@given(cases())
def test_of_gaps(case: Any) -> None:
    sizes, ids, _ = case
    needed = samples_by_shard(ids, sizes.samples) > 0
    none = map_reads(ids, sizes, costs_of(0))
    selected = samples_by_shard(ids, sizes.samples) * sizes.bodies // sizes.samples
    assert np.array_equal(none.ranged_bytes, selected + needed * sizes.headers)
    one = map_reads(ids, sizes, costs_of(HUGE))
    assert np.array_equal(one.ranges, needed)
    before = none
    for gap in (1, 5, 20, 60, 200, HUGE):
        reads = map_reads(ids, sizes, costs_of(gap))
        assert (reads.ranges <= before.ranges).all()
        assert (reads.ranged_bytes >= before.ranged_bytes).all()
        before = reads


def test_a_gap_has_no_overflow() -> None:
    sizes = sizes_of([1 << 20], [4000])
    free = Costs(dollars_per_gb=0.0)
    ids = np.array([0, (1 << 20) - 1])
    assert free.gap == 1 << 62
    assert map_reads(ids, sizes, free).ranges == [1]


@given(cases(), st.data())
def test_epochs_with_a_cache_add_up_to_what_was_ever_selected(case: Any, data: Any) -> None:
    """Without gaps and fallback, each sample is read once, and each header."""
    sizes, _, _ = case
    costs = costs_of(0)
    held = bitmap(np.empty(0, np.int64), sizes)
    never = np.zeros(len(sizes.samples), bool)
    total, ever = 0, set()
    for _ in range(3):
        some = sorted(data.draw(st.sets(st.integers(0, sizes.num_samples - 1))))
        ids = np.array(some, np.int64)
        total += map_reads(ids, sizes, costs, held).ranged_bytes.sum()
        hold(held, ids, sizes, never)
        ever |= set(some)
    assert set(ids_of(held, sizes.num_samples).tolist()) == ever
    at_once = map_reads(np.array(sorted(ever), np.int64), sizes, costs)
    assert total == at_once.ranged_bytes.sum()
    assert not map_reads(held, sizes, costs, held).missing.any()


def test_whole_shards_are_held_and_forgotten() -> None:
    sizes = sizes_of([5, 11, 3], [10, 10, 10])
    held = bitmap(np.array([2]), sizes)
    hold(held, np.array([6]), sizes, np.array([False, True, False]))
    assert ids_of(held, 19).tolist() == [2, *range(5, 16)]
    forget(held, sizes, [1])
    assert ids_of(held, 19).tolist() == [2]


def test_shards_that_cannot_be_read_by_ranges_are_read_whole() -> None:
    sizes = sizes_of(
        [10, 10, 10],
        [1000, 1000, 1000],
        stored=np.array([10048, 400, 10048]),
        ranged=np.array([True, False, False]),
        files=np.array([1, 1, 2]),
    )
    reads = map_reads(np.array([3, 13, 23]), sizes, costs_of(100))
    assert reads.whole.tolist() == [False, True, True]
    assert reads.bytes_by_shard("samples").tolist() == [1048, 400, 10048]
    assert reads.requests_by_shard("samples").tolist() == [2, 2, 4]
    assert reads.bytes_by_shard("shards").tolist() == [10048, 400, 10048]


def test_what_is_not_of_this_data_set_is_refused() -> None:
    sizes = sizes_of([10, 10], [10, 10])
    with pytest.raises(ValueError, match="ids from 3 to 20, but the data set has 20 samples"):
        map_reads(np.array([3, 20]), sizes)
    with pytest.raises(ValueError, match=r"selection has shape \(4,\), but .* has 3 bytes"):
        map_reads(np.zeros(4, np.uint8), sizes)
    with pytest.raises(ValueError, match="held has shape"):
        map_reads(np.array([3]), sizes, held=np.zeros(4, np.uint8))
    with pytest.raises(ValueError, match="fetch='bytes' is not accepted"):
        map_reads(np.array([3]), sizes).bytes_by_shard("bytes")
