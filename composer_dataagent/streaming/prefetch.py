# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a worker's two background threads do: have shards fetched ahead, and say which are there.

Streaming walks over every sample in both threads and asks for its shard anew. A shard that cannot
be evicted needs to be asked for only where its first sample comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from math import ceil
from time import sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming.base.constant import TICK
from streaming.base.dataset import _Iterator, _ShardState

from composer_dataagent.streaming.needs import part_of

_AT_ONCE = 4_096  # samples that are looked up at once


def prepare_ahead(dataset: Any, it: _Iterator) -> None:
    """Have shards downloaded, ``predownload`` samples before they are needed at most.

    Args:
        dataset (Any): A repaired StreamingDataset.
        it (_Iterator): The epoch; ``prepare_index`` is moved on.
    """
    ranges, ahead = dataset.ranges, dataset.predownload
    if ranges is not None:
        ahead = min(ahead, ceil(dataset.needs.horizon() * it.total))
    with _UnderWay(1 if ranges is None else ranges.shards_at_once()) as under_way:

        def has_come(position: int) -> bool:
            it.prepare_index = under_way.first(position)
            return it.prepare_index == position

        def can_begin(position: int) -> bool:
            has_come(position)
            return under_way.has_room() and ahead >= position - it.yield_index

        for position, shard in _turns(dataset, it):
            if not _wait(partial(can_begin, position), dataset, it):
                return
            if ranges is not None:
                ranges.position = position / it.total
                ranges.serve(int(part_of(it.yield_index, it.total)))
            if ranges is not None and dataset.is_complete(shard):
                dataset.prepare_shard(shard, False)  # takes no time worth a thread
            else:
                under_way.begin(position, dataset.prepare_shard, shard, False)
        _wait(partial(has_come, it.total), dataset, it)


class _UnderWay:
    """Calls that run side by side, each for a position; one at a time needs no thread.

    Args:
        at_once (int): How many.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._pool = ThreadPoolExecutor(at_once) if at_once > 1 else None
        self._calls: deque[tuple[int, Future[None]]] = deque()

    def begin(self, position: int, call: Callable[..., None], *arguments: Any) -> None:
        if self._pool is None:
            call(*arguments)
        else:
            self._calls.append((position, self._pool.submit(call, *arguments)))

    def first(self, position: int) -> int:
        """The first position whose call has not ended; ``position`` if all have.

        Raises:
            BaseException: What a call raised.
        """
        while self._calls and self._calls[0][1].done():
            self._calls.popleft()[1].result()
        return self._calls[0][0] if self._calls else position

    def has_room(self) -> bool:
        return len(self._calls) < self._at_once

    def __enter__(self) -> _UnderWay:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def follow(dataset: Any, it: _Iterator) -> None:
    """Wait for shards that others or the other thread prepare, and say how far one can go.

    Stock code asks for a missing shard once and then waits: forever, if the process that downloads
    it fails, or if the shard is evicted meanwhile.

    Args:
        dataset (Any): A repaired StreamingDataset.
        it (_Iterator): The epoch; ``ready_index`` is moved on.
    """
    states = dataset._shard_states

    def is_there(position: int, shard: int) -> bool:
        # A shard that is there is not known to be sound before the other thread has been at it.
        if it.prepare_index <= position or dataset.predownload < position - it.yield_index:
            return False
        state = states[shard]
        if state == _ShardState.PREPARING and not dataset.presence.is_prepared(shard):
            state = _ShardState.REMOTE  # whoever did that was killed
        if state == _ShardState.REMOTE:
            dataset.prepare_shard(shard, False)
        return states[shard] == _ShardState.LOCAL

    for position, shard in _turns(dataset, it):
        it.ready_index = position
        if not _wait(lambda at=position, of=shard: is_there(at, of), dataset, it):
            return
    it.ready_index = it.total


def _wait(condition: Callable[[], bool], dataset: Any, it: _Iterator) -> bool:
    """Wait until the condition holds; False if the epoch ends or fails before."""
    while not (it.should_exit() or dataset._event.is_set()):
        if condition():
            return True
        sleep(TICK)
    return False


def _turns(dataset: Any, it: _Iterator) -> Iterator[tuple[int, int]]:
    """Positions within the epoch at which a shard must be there, and the shard.

    Looked up as they are needed: the first batch does not wait for the whole epoch.
    """
    can_go = dataset.cache_limit is not None
    was_there = np.zeros(len(dataset.shards), bool)
    for start in range(0, it.total, _AT_ONCE):
        ids = it.sample_ids[start : start + _AT_ONCE]
        positions = np.flatnonzero(ids != -1)
        shards = dataset.shards_of(ids[positions])
        if not can_go:
            new = np.flatnonzero(~was_there[shards])
            new = new[first_visits(shards[new])]
            positions, shards = positions[new], shards[new]
            was_there[shards] = True
        yield from zip((start + positions).tolist(), shards.tolist(), strict=True)


def first_visits(shards: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each value comes for the first time, in order.

    Args:
        shards (NDArray[np.int64]): ``[K]`` any values.

    Returns:
        NDArray[np.int64]: Sorted positions, one for each distinct value.
    """
    _, first = np.unique(shards, return_index=True)
    return np.sort(first)
