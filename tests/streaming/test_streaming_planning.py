# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The plan of an epoch: streaming's own for random batches, complete for all batching methods."""

from __future__ import annotations

import warnings
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streaming.base.batching.random import generate_work_random_batching
from streaming.base.shuffle import get_shuffle
from streaming.base.world import World

from composer_dataagent.streaming.planning import (
    deal,
    generate_work,
    group_by_stream,
    interleave,
    shuffle_ids,
    stratify,
)
from composer_dataagent.streaming.shard_index import ids_of, shuffle_units

SHUFFLES = ["py1e", "py1br", "py1s", "py2s", "naive"]
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=8)
worlds = st.builds(
    lambda nodes, ranks, workers: World(nodes, ranks, workers, 0),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 3),
    st.integers(1, 3),
)


def make_dataset(streams: list[list[int]], **settings: Any) -> Any:
    """The settings of a StreamingDataset that plans depend on."""
    per_stream = np.array([sum(shards) for shards in streams])
    return SimpleNamespace(
        **{
            "samples_per_shard": np.concatenate([np.array(shards) for shards in streams]),
            "sample_offset_per_stream": np.cumsum(per_stream) - per_stream,
            "num_samples": int(per_stream.sum()),
            "num_canonical_nodes": 2,
            "initial_physical_nodes": None,
            "batch_size": 3,
            "batching_method": "random",
            "partition_algo": "relaxed",
            "shuffle": True,
            "shuffle_algo": "py1e",
            "shuffle_seed": 7,
            "shuffle_block_size": 30,
            "epoch_seed_change": True,
            **settings,
        }
    )


@given(
    shards=sizes,
    world=worlds,
    nodes=st.sampled_from([1, 2, 4, 8]),
    batch=st.integers(1, 4),
    algo=st.sampled_from([*SHUFFLES, None]),
    block=st.integers(2, 60),
    epoch=st.integers(0, 3),
    data=st.data(),
)
def test_random_batches_are_streamings_own(
    shards: list[int],
    world: World,
    nodes: int,
    batch: int,
    algo: str | None,
    block: int,
    epoch: int,
    data: st.DataObject,
) -> None:
    dataset = make_dataset(
        [shards],
        num_canonical_nodes=nodes,
        batch_size=batch,
        shuffle=algo is not None,
        shuffle_algo=algo,
        shuffle_block_size=block,
    )
    total = dataset.num_samples
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=total, max_size=total)))
    ids = np.flatnonzero(mask)
    even = max(nodes, world.num_nodes)  # both are powers of two
    ids = ids[: len(ids) // even * even]  # streaming fills up others with repetitions
    skipped = data.draw(st.integers(0, len(ids))) // world.num_nodes * world.num_nodes
    if len(ids) < max(nodes, 4 * world.num_nodes if nodes < world.num_nodes else 1):
        return
    if skipped > 0 and len(ids) - skipped < 2 * world.num_ranks:
        return  # what an uninterrupted epoch repeats is no longer there, and stock takes others
    dataset.epoch_size = len(ids)
    units = shuffle_units(ids, dataset.samples_per_shard)
    dataset.resample_streams = lambda epoch: (units, ids)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few samples and of small blocks
        stock = generate_work_random_batching(dataset, world, epoch, skipped)
        ours = generate_work(dataset, ids.astype(np.int32), world, epoch, skipped)
    assert np.array_equal(ours, stock)


@pytest.mark.parametrize("nodes", [1, 3])
def test_many_windows_of_the_shuffle_are_sorted_as_one(nodes: int) -> None:
    """Selections far larger than what the shuffle holds at once."""
    units = np.random.default_rng(0).integers(1, 200, 2_000)
    ids = np.arange(units.sum(), dtype=np.int32)
    for block in (50, 1_000, 30_000):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stock = get_shuffle("py1e", units, nodes, 3, 5, block)
            ours = shuffle_ids(ids, units, "py1e", nodes, 3, 5, block)
        assert ours.dtype == np.int32
        assert np.array_equal(ours, stock)


# A dataset's settings of every kind that a plan depends on.
datasets = st.builds(
    make_dataset,
    st.lists(sizes, min_size=1, max_size=4),
    num_canonical_nodes=st.sampled_from([1, 2, 4, 64]),
    batch_size=st.integers(1, 4),
    batching_method=st.sampled_from(["random", "stratified", "per_stream"]),
    shuffle_algo=st.sampled_from(SHUFFLES),
)


@given(dataset=datasets, world=worlds, data=st.data())
def test_every_selected_sample_is_dealt_once_but_for_padding(
    dataset: Any, world: World, data: st.DataObject
) -> None:
    total = dataset.num_samples
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=total, max_size=total)))
    ids = np.flatnonzero(mask)
    if not len(ids):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work = generate_work(dataset, ids, world, 1, 0)
    assert work.shape[:3] == (world.num_nodes, world.ranks_per_node, world.workers_per_rank)
    counts = Counter(work[work != -1].tolist())
    assert set(counts) == set(ids.tolist())
    assert counts.total() == -(-len(ids) // world.num_ranks) * world.num_ranks
    # All ranks serve the same number, in the same batches.
    per_rank = (work != -1).transpose(3, 2, 4, 0, 1).reshape(-1, world.num_ranks)
    assert (per_rank.all(axis=1) | ~per_rank.any(axis=1)).all()


@given(dataset=datasets, world=worlds, data=st.data())
def test_a_resumed_plan_is_the_rest_of_the_whole_one(
    dataset: Any, world: World, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, dataset.num_samples), "size")
    ids = np.sort(np.random.default_rng(size).permutation(dataset.num_samples)[:size])
    each = -(-size // world.num_ranks)
    done = data.draw(st.integers(0, each), "done by each rank")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = generate_work(dataset, ids, world, 1, 0)
        rest = generate_work(dataset, ids, world, 1, done * world.num_ranks)
    for node in range(world.num_nodes):
        for rank in range(world.ranks_per_node):
            assert of_rank(rest, node, rank) == of_rank(whole, node, rank)[done:]


def of_rank(work: np.ndarray, node: int, rank: int) -> list[int]:
    """What a rank serves, in order: its workers take turns, batch by batch."""
    order = work[node, rank].transpose(1, 0, 2).reshape(-1)
    return order[order != -1].tolist()


@given(counts=st.lists(st.integers(0, 60), min_size=1, max_size=4), batch=st.integers(1, 16))
def test_stratified_batches_have_each_streams_share(counts: list[int], batch: int) -> None:
    if not sum(counts):
        return
    streams = [1_000 * i + np.arange(count) for i, count in enumerate(counts)]
    mixed = stratify(streams)
    assert sorted(mixed.tolist()) == np.concatenate(streams).tolist()
    for start in range(0, len(mixed) - batch + 1, batch):
        inside = np.bincount(mixed[start : start + batch] // 1_000, minlength=len(counts))
        share = np.array(counts) / sum(counts)
        assert (np.abs(inside - batch * share) <= 1 + len(counts) * share + 1e-9).all()


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=4), batch=st.integers(1, 16))
def test_batches_of_one_stream_come_before_the_mixed_rest(counts: list[int], batch: int) -> None:
    streams = [1_000 * i + np.arange(count) for i, count in enumerate(counts)]
    grouped = group_by_stream(streams, batch, np.random.default_rng(0))
    assert sorted(grouped.tolist()) == np.concatenate(streams).tolist()
    whole = sum(count // batch for count in counts)
    for at in range(whole):
        assert len(set(grouped[at * batch : (at + 1) * batch] // 1_000)) == 1


def test_few_samples_over_many_ranks_are_repeated() -> None:
    work = deal(np.array([5, 6, 7]), World(2, 4, 1, 0), 1)
    assert (work != -1).all()
    assert set(work.reshape(-1).tolist()) == {5, 6, 7}


@given(st.lists(st.integers(0, 9), min_size=3, max_size=30), st.integers(1, 3))
def test_taking_turns_keeps_what_there_is(values: list[int], nodes: int) -> None:
    order = np.arange(len(values))
    assert sorted(interleave(order, nodes).tolist()) == order.tolist()


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_ids_of_a_bitmap(mask: list[bool]) -> None:
    ids = ids_of(np.packbits(mask), len(mask), chunk=2)
    assert ids.dtype == np.int32
    assert np.array_equal(ids, np.flatnonzero(mask))
