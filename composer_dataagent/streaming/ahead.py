# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Fetch what the next epoch serves first, while the last one is evaluated and saved.

No loader worker may be there in that time, so it is done by a child process, which ends when the
epoch begins.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from multiprocessing.synchronize import Event
from typing import Any

from streaming.base.world import World

from composer_dataagent.streaming.needs import Needs
from composer_dataagent.streaming.planning import generate_work

log = logging.getLogger(__name__)
NAME = "composer_dataagent fetches ahead"


def fetch_ahead(dataset: Any, workers: int) -> None:
    """Begin to fetch for the upcoming epoch, on the first rank of a node.

    Args:
        dataset (Any): A selective StreamingDataset whose shards are read by ranges.
        workers (int): Loader workers that each rank will have.
    """
    _stop(dataset)
    is_first = dataset._unique_rank_world.is_local_leader
    if not is_first or multiprocessing.current_process().daemon or not dataset.predownload:
        return
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    arguments = dataset, workers, dataset.next_epoch, stop
    process = context.Process(target=_run, args=arguments, name=NAME, daemon=True)
    process.start()
    dataset.ahead = process, stop


def wait_for_ahead(dataset: Any) -> None:
    """Wait until all is there that is fetched ahead."""
    if dataset.ahead is not None:
        process, _ = dataset.ahead
        process.join()
        dataset.ahead = None


def _stop(dataset: Any) -> None:
    """Let it finish the shard that it is at: the cache's books are kept by whoever fetches."""
    if dataset.ahead is not None:
        _, stop = dataset.ahead
        stop.set()
        wait_for_ahead(dataset)


def _run(dataset: Any, workers: int, next_epoch: int, stop: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        _fetch(dataset, workers, next_epoch, stop)
    except Exception as error:  # the epoch itself meets it again, and says so
        log.info("Nothing more is fetched ahead: %s", error)
    os._exit(0)  # nothing of the parent's is to be tidied up


def _fetch(dataset: Any, workers: int, next_epoch: int, stop: Event) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    dataset.leave_parent()
    rank = dataset._parallel_rank_world
    per_rank = max(workers, 1)
    world = World(rank.num_nodes, rank.ranks_per_node, per_rank, rank.rank * per_rank)
    epoch, done = dataset._resume(rank, next_epoch)
    ids, _ = dataset.selection_store.read(epoch)
    plan = generate_work(dataset, ids, world, epoch, done)[world.node]
    needs = Needs(f"{dataset.needs.path}.{os.getpid()}", dataset.samples_per_shard)
    dataset.publish_needs(needs, plan)
    needs.begin_epoch()
    needs.open()
    os.remove(needs.path)
    dataset.needs = dataset.ranges.needs = needs
    dataset.ranges.is_ahead = True
    order = plan.transpose(2, 0, 1, 3)  # by step
    steps = order.shape[0]
    in_step = order[0].size
    first = min(-(-dataset.predownload * world.workers_per_node // in_step), steps)
    been: set[int] = set()
    for step in range(first):
        ids = order[step].reshape(-1)
        for shard_id in dataset.shards_of(ids[ids >= 0]).tolist():
            begun = dataset.next_epoch != next_epoch
            if begun or stop.is_set() or not parent.is_alive():
                return
            if shard_id not in been:
                been.add(shard_id)
                dataset.ranges.position = step / steps
                dataset.prepare_shard(shard_id, False)
