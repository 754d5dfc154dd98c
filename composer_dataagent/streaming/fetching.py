# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Fetch some samples of a shard, many ranges at once, into a file that knows what it holds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import obstore
from numpy.typing import NDArray
from obstore.exceptions import GenericError

from composer_dataagent.streaming.partial import PartialShard
from composer_dataagent.streaming.remotes import open_store
from composer_dataagent.streaming.spans import coalesce, header_size, offsets_of, said_size

if TYPE_CHECKING:
    from obstore.store import ObjectStore


class _RangesError(RuntimeError):
    """Ranges could not be read."""


class _ChangedError(_RangesError):
    """The object is another one than that of which some samples are held."""


@dataclass(frozen=True, eq=False)
class Order:
    """What to fetch.

    Attributes:
        remote (str): Where the shard's stream is, see :func:`open_store`.
        key (str): The shard's name there.
        path (str): The :class:`PartialShard`; made if it is not there.
        samples (int): Samples of the shard, by the index.
        size (int): Bytes of the shard, by the index.
        column_sizes (tuple[int | None, ...]): Bytes of each column, by the index.
        wanted (NDArray[np.int64]): ``[K]`` sorted numbers of samples within the shard.
        gap (int): See :func:`coalesce`.
        concurrency (int): Requests under way at once.
        timeout (float): Seconds for each.
        attempts (int): How often each is made.
    """

    remote: str
    key: str
    path: str
    samples: int
    size: int
    column_sizes: tuple[int | None, ...]
    wanted: NDArray[np.int64]
    gap: int
    concurrency: int
    timeout: float
    attempts: int


@dataclass
class Traffic:
    """What was asked of a store.

    Attributes:
        requests (int): How many.
        bytes (int): Of what came back, without headers of the protocol.
        failure (str): Why not all that was wanted has come; empty if it has. What came is held.
        is_full (bool): Whether that is because the disk has no room for it.
    """

    requests: int = 0
    bytes: int = 0
    failure: str = ""
    is_full: bool = False


_MOST_AT_ONCE = 1 << 24  # bytes of a request: it has a time limit, and what comes is in memory
_PATIENCE = 6  # times the limit for an attempt
_THREAD = "tokio-rt-worker"  # what the client calls its threads
_FULL = (errno.ENOSPC, errno.EDQUOT)
# The client itself tries again what a store refuses for a moment.
_WORTH_ANOTHER_TRY = (EOFError, GenericError)
_stores: dict[tuple[str, float], ObjectStore] = {}
_BORN = os.getpid()  # of what imported this, which forks of it do not do again
_used_in: int | None = None  # the process that has used one


def fetch(order: Order) -> Traffic:
    """Fetch the samples that are wanted and not held.

    In one process, and in no fork of it: see :func:`open_store`.

    Args:
        order (Order): What.

    Returns:
        Traffic: What it took, and whether it was done.
    """
    global _used_in
    traffic = Traffic()
    if _used_in != os.getpid():
        # Whoever forked this process may have used a client, by us or by itself.
        forked = os.getpid() != _BORN
        unusable = _used_in is not None or (forked and reads_itself(os.getppid()))
        if unusable and not reads_itself(os.getpid()):
            traffic.failure = "this process is a fork of one that reads from object stores itself"
            return traffic
    _used_in = os.getpid()
    if isinstance(_try(order, traffic), _ChangedError):
        with contextlib.suppress(FileNotFoundError):
            os.remove(order.path)
        _try(order, traffic)
    return traffic


def reads_itself(process_id: int) -> bool:
    """Whether a process has used a client of ours, whose threads do not survive a fork.

    Args:
        process_id (int): Of this or another process.
    """
    names: list[str] = []
    with contextlib.suppress(OSError):  # it has ended
        for comm in Path(f"/proc/{process_id}/task").glob("*/comm"):
            with contextlib.suppress(OSError):  # the thread has
                names.append(comm.read_text().strip())
    return _THREAD in names


def _try(order: Order, traffic: Traffic) -> Exception | None:
    try:
        asyncio.run(_fetch(order, traffic))
    except Exception as error:  # of the client, which has a dozen of its own
        said = isinstance(error, _RangesError)
        first_line = str(error).partition("\n")[0]
        traffic.failure = first_line if said else f"{type(error).__name__}: {first_line}"
        traffic.is_full = isinstance(error, OSError) and error.errno in _FULL
        return error
    traffic.failure = ""
    return None


async def _fetch(order: Order, traffic: Traffic) -> None:
    client = _Client(order, traffic)
    partial = open_partial(order.path, order.samples, order.size, writable=True)
    if partial is not None:
        held, offsets = partial.held(), partial.offsets()
        await _fill(client, partial, order.wanted[~held[order.wanted]], offsets)
        return
    header_at = asyncio.create_task(client.get(0, header_size(order.samples)))
    offsets = _known_offsets(order)
    ahead = None if offsets is None else client.get_all(order.wanted, offsets)
    try:
        header = bytes(await header_at)
        said = offsets_of(header, order.samples, order.size)
        if offsets is None:
            offsets = said
        elif not np.array_equal(offsets, said):
            raise _RangesError(f"{order.key} does not have samples of the size that its index says")
        PartialShard.create(order.path, header, order.samples, order.size, client.version)
        partial = PartialShard(order.path, order.samples, order.size, writable=True)
        await _fill(client, partial, order.wanted, offsets, ahead)
    finally:
        for task in ahead or {}:
            task.cancel()


async def _fill(
    client: _Client,
    partial: PartialShard,
    samples: NDArray[np.int64],
    offsets: NDArray[np.int64],
    ahead: dict[asyncio.Task[Any], tuple[int, int]] | None = None,
) -> None:
    """Write samples as they come; what has come when something fails is held."""
    tasks = client.get_all(samples, offsets) if ahead is None else ahead
    there: list[NDArray[np.int64]] = []
    try:
        for task in list(tasks):
            data = await task
            begin, end = tasks.pop(task)  # with it goes what came
            if not partial.is_of(client.version):
                raise _ChangedError(f"{client.order.key} was replaced by another object")
            first, last = np.searchsorted(offsets[samples], (begin, end))
            inside = samples[first:last]
            _check(client.order, data, begin, inside, offsets)
            partial.write(data, begin)
            there.append(inside)
    finally:
        for task in tasks:
            task.cancel()
        if there:
            partial.hold(np.concatenate(there))


class _Client:
    """Gets ranges of one object, and sees to it that it stays the same."""

    def __init__(self, order: Order, traffic: Traffic) -> None:
        self.order = order
        self.traffic = traffic
        self.version = ""  # of the object, as the first answer tells it
        self._turn = asyncio.Semaphore(order.concurrency)
        key = order.remote, order.timeout
        if key not in _stores:
            _stores[key] = open_store(*key)
        self._store = _stores[key]

    def get_all(
        self, samples: NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> dict[asyncio.Task[Any], tuple[int, int]]:
        spans = coalesce(samples, offsets, self.order.gap, _MOST_AT_ONCE)
        return {asyncio.create_task(self.get(*span)): span for span in spans}

    async def get(self, begin: int, end: int) -> memoryview:
        """The bytes from ``begin`` to ``end``."""
        async with self._turn:
            for _ in range(self.order.attempts - 1):
                with contextlib.suppress(*_WORTH_ANOTHER_TRY):
                    return await self._in_time(begin, end)
            return await self._in_time(begin, end)

    async def _in_time(self, begin: int, end: int) -> memoryview:
        # The client has a limit for each of its attempts; this is for one that never answers.
        return await asyncio.wait_for(self._get(begin, end), _PATIENCE * self.order.timeout)

    async def _get(self, begin: int, end: int) -> memoryview:
        self.traffic.requests += 1
        answer = await obstore.get_async(
            self._store, self.order.key, options={"range": (begin, end)}
        )
        meta = answer.meta
        if meta["size"] != self.order.size:
            raise _RangesError(
                f"{self.order.key} has {meta['size']} bytes, but the index says {self.order.size}"
            )
        version = meta["e_tag"] or str(meta["last_modified"])
        self.version = self.version or version
        if version != self.version:
            raise _ChangedError(f"{self.order.key} was replaced while it was being read")
        data = memoryview(await answer.bytes_async())
        self.traffic.bytes += len(data)
        if len(data) != end - begin:
            raise EOFError(f"{len(data)} of {end - begin} bytes of {self.order.key} came")
        return data


def open_partial(path: str, samples: int, size: int, writable: bool = False) -> PartialShard | None:
    """The file if it is there, and of this shard."""
    try:
        return PartialShard(path, samples, size, writable)
    except (FileNotFoundError, ValueError):
        return None


def _known_offsets(order: Order) -> NDArray[np.int64] | None:
    """Where samples are that all have the same size, before the header has come."""
    if None in order.column_sizes:
        return None
    each = sum(size or 0 for size in order.column_sizes)
    begin = order.size - each * order.samples
    return begin + each * np.arange(order.samples + 1)


def _check(
    order: Order,
    data: memoryview,
    begin: int,
    samples: NDArray[np.int64],
    offsets: NDArray[np.int64],
) -> None:
    """Check that samples are such."""
    for sample in samples.tolist():
        at, size = int(offsets[sample] - begin), int(offsets[sample + 1] - offsets[sample])
        if said_size(data[: at + size], order.column_sizes, at) != size:
            raise _RangesError(
                f"{order.key}: the columns of its sample {sample} do not add up to its {size} bytes"
            )
