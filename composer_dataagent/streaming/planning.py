# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""In which order, and by which worker, an epoch's samples are served: streaming's own plan, lean.

The arrays are those that streaming would make of the selected samples: ``shuffle/py1e.py`` and
``partition/orig.py`` of ``streaming`` 0.13.0. Made its way, the plan of 50 million samples takes
2.4 GB, since every step has arrays of 8 bytes of its own. Here sample ids of 4 bytes are moved
through the steps in place of positions, and the shuffle is sorted window by window.
"""

from __future__ import annotations

import warnings
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming.base.shuffle import get_shuffle
from streaming.base.shuffle.py1s import divide_spans
from streaming.base.world import World

from composer_dataagent.streaming.shard_index import shuffle_units

BATCHING_METHODS = ("random", "stratified", "per_stream")


def shuffle_ids(
    ids: NDArray, units: NDArray[np.int64], algo: str, nodes: int, seed: int, epoch: int, block: int
) -> NDArray:
    """Shuffle samples as streaming does.

    Args:
        ids (NDArray): ``[K]`` sorted sample ids, of any integer type.
        units (NDArray[np.int64]): Number of ids in each shard that has any; sums to ``K``.
        algo (str): Name of streaming's shuffle.
        nodes (int): Canonical nodes.
        seed (int): Of the run.
        epoch (int): Of the run; another order in each.
        block (int): Size of the range that a shard's samples are spread over, in samples.

    Returns:
        NDArray: ``[K]``, of the type of ``ids``.
    """
    if algo == "py1e":
        return _shuffle_py1e(ids, units, nodes, seed, epoch, block)
    return ids[get_shuffle(algo, units, nodes, seed, epoch, block)]


def _shuffle_py1e(
    ids: NDArray, units: NDArray[np.int64], nodes: int, seed: int, epoch: int, block: int
) -> NDArray:
    """Each sample is moved by a random distance, at most ``block / 2`` and a bit.

    Random numbers are drawn in the order of streaming's ``get_shuffle_py1e``. Two samples that land
    on the very same place may come in the other order.
    """
    ends = np.cumsum(units)
    spans = list(zip((ends - units).tolist(), ends.tolist(), strict=True))
    np.random.default_rng(seed).shuffle(spans)
    spans, nodes_spans = divide_spans(spans, len(ids), nodes)
    rng = np.random.default_rng(seed + epoch)
    for first, last in nodes_spans:
        part = spans[first:last]
        rng.shuffle(part)
        spans[first:last] = part
    order = np.empty_like(ids)
    start = 0
    for first, last in nodes_spans:
        stop = start
        for begin, end in spans[first:last]:
            part = order[stop : stop + end - begin]
            part[:] = ids[begin:end]
            rng.shuffle(part)
            stop += end - begin
        sizes = [end - begin for begin, end in spans[first:last]]
        _spread(order[start:stop], sizes, rng, block)
        start = stop
    return order


def _spread(order: NDArray, sizes: list[int], rng: np.random.Generator, block: int) -> None:
    """Move samples by random distances, in place.

    A sample lands less than ``reach`` before its place. So once all samples up to a place are on
    their way, what lands ``reach`` before it is in order: the window of samples that must be held
    is short.
    """
    count = len(order)
    low, high = int(0.75 * block), int(1.25 * block)
    reach = high / 2
    landing: list[NDArray[np.float64]] = [np.empty(0)]
    moving: list[NDArray] = [order[:0].copy()]
    held = start = written = 0
    if max(sizes, default=0) > high:
        warnings.warn(
            f"Shuffle block size was smaller than shard size: shuffle_block_size={block} leaves "
            "the samples of large shards together",
            stacklevel=2,
        )
    for size in sizes:
        stop = start + size
        distance = max((rng.integers(low, high) - size) / 2, 0)
        before, after = max(-distance, -start), min(distance, count - stop)
        landing.append(np.arange(start, stop, dtype=np.float64))
        landing[-1] += rng.uniform(before, after, size)
        moving.append(order[start:stop].copy())
        held, start = held + size, stop
        if held < 4 * reach and stop < count:
            continue
        where, what = np.concatenate(landing), np.concatenate(moving)
        landing.clear()
        moving.clear()
        settled = where < stop - reach if stop < count else np.ones(held, bool)
        done, places = what[settled], where[settled]
        order[written : written + len(done)] = done[np.argsort(places)]
        written += len(done)
        np.logical_not(settled, out=settled)
        landing.append(where[settled])
        moving.append(what[settled])
        held = len(moving[0])


def interleave(order: NDArray, nodes: int) -> NDArray:
    """Take turns between the canonical nodes, each of which has a part of the order.

    Streaming fills up the shorter parts with repetitions of their last sample, which it does not
    count in an epoch's length.

    Args:
        order (NDArray): ``[K]`` sample ids, at least one for each canonical node.
        nodes (int): Canonical nodes.

    Returns:
        NDArray: ``[K]``, all of them.
    """
    starts = np.arange(nodes + 1) * len(order) // nodes
    shortest, odd = divmod(len(order), nodes)
    if not odd:
        return order.reshape(nodes, shortest).T.reshape(-1)
    turns = np.empty(len(order), order.dtype)
    whole = turns[: shortest * nodes].reshape(shortest, nodes)
    last = shortest * nodes
    for node, (start, stop) in enumerate(pairwise(starts)):
        whole[:, node] = order[start : start + shortest]
        if stop - start > shortest:
            turns[last] = order[stop - 1]
            last += 1
    return turns


def stratify(streams: list[NDArray]) -> NDArray:
    """Mix streams so that every stretch has of each as much as the whole has, to a sample or two.

    Streaming gives every batch the same composition and leaves out what does not fill one; nothing
    is left out here.

    Args:
        streams (list[NDArray]): Of each stream the sample ids, in order.

    Returns:
        NDArray: All of them.
    """
    progress = [(np.arange(len(ids)) + 0.5) / max(len(ids), 1) for ids in streams]
    turns = np.argsort(np.concatenate(progress), kind="stable")
    return np.concatenate(streams)[turns]


def group_by_stream(
    streams: list[NDArray], global_batch_size: int, rng: np.random.Generator
) -> NDArray:
    """Fill every global batch from one stream, in random order of the streams.

    Streaming leaves out what does not fill a batch of its stream; here it comes at the end, mixed.

    Args:
        streams (list[NDArray]): Of each stream the sample ids, in order.
        global_batch_size (int): Samples per step over all ranks.
        rng (np.random.Generator): Draws the order of the batches.

    Returns:
        NDArray: All of them.
    """
    whole = [len(ids) // global_batch_size for ids in streams]
    turns = np.repeat(np.arange(len(streams)), whole)
    rng.shuffle(turns)
    batches = [
        ids[: count * global_batch_size].reshape(count, global_batch_size)
        for ids, count in zip(streams, whole, strict=True)
    ]
    grouped = np.empty((len(turns), global_batch_size), streams[0].dtype)
    for stream, of_stream in enumerate(batches):
        grouped[turns == stream] = of_stream
    rest = [ids[count * global_batch_size :] for ids, count in zip(streams, whole, strict=True)]
    return np.concatenate([grouped.reshape(-1), *rest])


def deal(served: NDArray, world: World, batch_size: int, done: int = 0) -> NDArray:
    """Deal samples to nodes, ranks and workers, who take turns.

    All ranks get the same number: some of the last samples are repeated for that, one for each rank
    at most.

    Args:
        served (NDArray): Sample ids, one node's after the other's, for each rank in turn.
        world (World): How many there are of each.
        batch_size (int): Samples per batch of a rank.
        done (int): Samples that all ranks together have served before. Default: ``0``.

    Returns:
        NDArray: ``[nodes, ranks, workers, batches, batch_size]``, of the type of ``served``; -1
        where there is no sample.
    """
    physical, ranks, workers = world.num_nodes, world.ranks_per_node, world.workers_per_rank
    if done % (physical * ranks):  # by another number of ranks, which repeated others
        served, done = served[done:], 0
    # Before what is done is left out: a resumed epoch repeats what an uninterrupted one repeats.
    served, tail = _even_out(served, physical, ranks)
    tail = tail[max(done - len(served), 0) :]
    served = served[done:]
    per_step = workers * batch_size * ranks * physical
    steps = ceil((len(served) + len(tail)) / per_step)
    dealt = np.full((physical, ranks, workers, steps, batch_size), -1, served.dtype)
    # In the order of serving: step, worker, place in the batch, rank, node.
    places = dealt.transpose(3, 2, 4, 1, 0)
    whole = len(served) // per_step
    places[:whole] = served[: whole * per_step].reshape(-1, *places.shape[1:])
    rest = np.full((steps - whole) * per_step, -1, served.dtype)
    last = np.concatenate([served[whole * per_step :], tail])
    rest[: len(last)] = last
    places[whole:] = rest.reshape(-1, *places.shape[1:])
    return dealt


def _even_out(served: NDArray, nodes: int, ranks: int) -> tuple[NDArray, NDArray]:
    """What is served, whole for each node, and what is repeated so that it is for each rank."""
    odd = -len(served) % nodes
    if odd:
        served = np.concatenate([served, np.resize(served, odd)])
    each = len(served) // nodes
    missing = -each % ranks
    if not missing or not each:
        return served, served[:0]
    # As streaming does: samples that another rank has just served, or all over again.
    repeated = np.arange(each - ranks - missing + 1, each - ranks + 1)
    if repeated[0] < 0:
        repeated = np.arange(missing) % each
    return served, served.reshape(each, nodes)[repeated].reshape(-1)


def generate_work(
    dataset: Any, ids: NDArray, world: World, epoch: int, sample_in_epoch: int
) -> NDArray:
    """Which samples each worker serves, and in which order.

    Where ``batching_method`` is ``random`` and the number of samples divides by that of canonical
    nodes, the result is that of streaming's own function of this name; else it has what is left,
    without the repetitions. The order is the same however many nodes and ranks share it.

    Args:
        dataset (Any): A StreamingDataset, for its settings.
        ids (NDArray): ``[K]`` sorted ids of the selected samples.
        world (World): Nodes, ranks and workers.
        epoch (int): Which epoch it is.
        sample_in_epoch (int): Samples that were served before, over all ranks.

    Returns:
        NDArray: ``[nodes, ranks, workers, batches, batch_size]``, -1 where there is no sample.
    """
    served = serving_order(dataset, ids, world, epoch)
    return deal(served, world, dataset.batch_size, sample_in_epoch)


def serving_order(dataset: Any, ids: NDArray, world: World, epoch: int) -> NDArray:
    """The samples one after the other, before they are dealt. See :func:`generate_work`."""
    if dataset.batching_method == "random":
        return _interleaved(dataset, ids, 1.0, epoch)
    offsets = np.append(dataset.sample_offset_per_stream, dataset.num_samples)
    bounds = np.searchsorted(ids, offsets)
    streams = [
        _interleaved(dataset, ids[start:stop], (stop - start) / len(ids), epoch)
        for start, stop in pairwise(bounds)
        if stop > start
    ]
    if dataset.batching_method == "stratified":
        return stratify(streams)
    global_batch_size = dataset.batch_size * world.num_ranks
    seed = dataset.shuffle_seed + (epoch if dataset.epoch_seed_change else 0)
    return group_by_stream(streams, global_batch_size, np.random.default_rng(seed))


def _interleaved(dataset: Any, ids: NDArray, share: float, epoch: int) -> NDArray:
    """The ids of the whole dataset or one of its streams, shuffled if that is wanted."""
    nodes = min(dataset.num_canonical_nodes, len(ids))
    if dataset.shuffle:
        ids = shuffle_ids(
            ids,
            shuffle_units(ids, dataset.samples_per_shard),
            dataset.shuffle_algo,
            nodes,
            dataset.shuffle_seed,
            epoch,
            max(int(dataset.shuffle_block_size * share), 2),
        )
    return interleave(ids, nodes)
