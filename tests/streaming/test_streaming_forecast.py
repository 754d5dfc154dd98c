# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a run will fetch, simulated: against sums of single epochs, and between the known ends."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer_dataagent.streaming import forecast as module
from composer_dataagent.streaming.costs import REQUESTS_OF_SHARD, Costs
from composer_dataagent.streaming.egress import ShardSizes, map_reads
from composer_dataagent.streaming.forecast import (
    MODES,
    by_ratio,
    draw_ids,
    draw_shards,
    forecast,
    some_shards,
)

# A request is worth 100 bytes: both ranges and whole shards occur.
COSTS = Costs(dollars_per_gb=1.0, dollars_per_million_requests=0.1)


def sizes_of(samples: list[int], each: int = 60) -> ShardSizes:
    count = np.array(samples, np.int64)
    raw = count * each + 4 * (count + 2)
    ones = np.ones(len(count), np.int64)
    return ShardSizes(count, raw, raw, ones.astype(bool), ones)


SIZES = sizes_of([13, 1, 29, 7, 30, 17])
EQUAL = sizes_of([20] * 12)
shards = st.lists(st.integers(1, 30), min_size=1, max_size=8).map(sizes_of)
ratios = st.lists(st.sampled_from([0.05, 0.2, 0.5, 0.9, 1.0]), min_size=1, max_size=5)


@given(shards, st.sampled_from([0.01, 0.3, 0.5, 1.0]), st.integers(0, 3), st.integers(0, 3))
def test_selections_have_the_size_of_the_ratio(
    sizes: ShardSizes, ratio: float, seed: int, epoch: int
) -> None:
    count = max(1, int(ratio * sizes.num_samples + 0.5))
    ids = draw_ids(sizes.num_samples, ratio, seed, epoch)
    assert len(ids) == count and (np.diff(ids) > 0).all() and ids[-1] < sizes.num_samples
    selected = draw_shards(sizes, ratio, seed, epoch)
    assert selected.sum() == count
    # Whole shards, but for the last one.
    assert ((selected > 0) & (selected < sizes.samples)).sum() <= 1


@given(shards, ratios, st.integers(1, 3), st.integers(0, 2))
def test_without_a_cache_epochs_are_independent(
    sizes: ShardSizes, ratios: list[float], nodes: int, seed: int
) -> None:
    found = forecast(sizes, ratios, COSTS, cache_limit=0, nodes=nodes, seed=seed)
    for epoch, ratio in enumerate(ratios):
        reads = map_reads(draw_ids(sizes.num_samples, ratio, seed, epoch), sizes, COSTS)
        for fetch in ("shards", "samples"):
            numbers = reads.bytes_by_shard(fetch).sum(), reads.requests_by_shard(fetch).sum()
            assert tuple(found[fetch][epoch]) == numbers
        of_shard = draw_shards(sizes, ratio, seed, epoch)
        assert found["whole_shards"][epoch, 0] == sizes.stored[of_shard > 0].sum()
        whole = sizes.stored.sum(), REQUESTS_OF_SHARD * len(sizes.samples)
        assert tuple(found["full"][epoch]) == whole


@given(shards, ratios)
def test_what_fits_is_fetched_once(sizes: ShardSizes, ratios: list[float]) -> None:
    found = forecast(sizes, ratios, Costs(dollars_per_million_requests=0.0))
    assert found["full"][:, 0].tolist() == [sizes.stored.sum(), *([0] * (len(ratios) - 1))]
    ever = np.unique(
        np.concatenate([draw_ids(sizes.num_samples, r, 0, e) for e, r in enumerate(ratios)])
    )
    reads = map_reads(ever, sizes, Costs(dollars_per_million_requests=0.0))
    assert found["shards"][:, 0].sum() == sizes.stored[reads.needed].sum()
    # Free requests: no gap is read, and what all samples of a shard cost is never less than it.
    assert found["samples"][:, 0].sum() == reads.ranged_bytes.sum()


@given(shards, ratios, st.integers(1, 3), st.sampled_from([300, 1000, 3000]))
def test_a_limited_cache_is_between_none_and_all(
    sizes: ShardSizes, ratios: list[float], nodes: int, limit: int
) -> None:
    none, some, all_ = (
        forecast(sizes, ratios, COSTS, cache_limit=each, nodes=nodes) for each in (0, limit, None)
    )
    for mode in ("full", "shards", "whole_shards"):
        assert (none[mode] >= some[mode]).all()
        assert some[mode].sum(0)[0] >= all_[mode].sum(0)[0]
    plenty = forecast(sizes, ratios, COSTS, cache_limit=int(sizes.raw.sum()), nodes=nodes)
    for mode in MODES:
        assert np.array_equal(plenty[mode], all_[mode]), mode


@settings(max_examples=20)
@given(st.integers(0, 5), st.integers(1, 12))
def test_what_was_used_longest_ago_goes_first(seed: int, places: int) -> None:
    limit = places * int(EQUAL.raw[0])
    found = forecast(EQUAL, [0.1] * 6, COSTS, cache_limit=limit, seed=seed)["shards"]
    kept: OrderedDict[int, None] = OrderedDict()
    for epoch in range(6):
        ids = draw_ids(EQUAL.num_samples, 0.1, seed, epoch)
        used = set((ids // 20).tolist())
        fetched = 0
        for shard in np.random.default_rng([seed, epoch, 1]).permutation(12).tolist():
            if shard not in used:
                continue
            fetched += shard not in kept
            kept[shard] = None
            kept.move_to_end(shard)
            if len(kept) > places:
                kept.popitem(last=False)
        assert found[epoch].tolist() == [fetched * EQUAL.raw[0], fetched * REQUESTS_OF_SHARD]


@pytest.mark.parametrize("nodes", [2, 3])
def test_nodes_keep_their_shards_while_all_are_used(nodes: int) -> None:
    found = forecast(EQUAL, [1.0, 1.0, 1.0], COSTS, nodes=nodes)
    for mode in MODES:
        assert found[mode][:, 0].tolist() == [EQUAL.raw.sum(), 0, 0], mode
    # What is selected of other shards each time is used by other nodes, too.
    apart, one = (forecast(EQUAL, [0.2] * 20, COSTS, nodes=n)["whole_shards"] for n in (nodes, 1))
    assert one[:, 0].sum() == EQUAL.raw.sum() < apart[:, 0].sum() <= nodes * EQUAL.raw.sum()


def test_by_ratio() -> None:
    found = by_ratio(SIZES, [0.1, 0.5, 1.0], COSTS)
    assert found["full"] == [1.0, 1.0, 1.0]
    for mode in MODES:
        assert found[mode] == sorted(found[mode]) and found[mode][-1] == 1.0
    assert found["samples"][0] < found["shards"][0]


def test_of_very_many_shards_some_stand_for_all(monkeypatch: Any) -> None:
    sizes = sizes_of([20] * 2000)
    assert len(some_shards(sizes, 0)) == 2000
    whole = forecast(sizes, [0.3] * 3, COSTS)
    monkeypatch.setattr(module, "MOST_SAMPLES", 8000)
    chosen = some_shards(sizes, 0)
    assert len(chosen) == 400 and (np.diff(chosen) > 0).all()
    part = forecast(sizes.some(chosen), [0.3] * 3, COSTS)
    for mode in MODES:
        np.testing.assert_allclose(5 * part[mode].sum(0), whole[mode].sum(0), rtol=0.03)
