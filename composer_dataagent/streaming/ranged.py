# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Shards of which only the selected samples are fetched.

A shard is there whole, as streaming fetches it, or in part, in a folder of its own: what streaming
finds in its cache is always whole, also in a later run without any selection.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import math
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming import Stream

from composer_dataagent.streaming.costs import Costs
from composer_dataagent.streaming.courier import fetch_safely
from composer_dataagent.streaming.fetching import Order, open_partial
from composer_dataagent.streaming.needs import Needs
from composer_dataagent.streaming.part_folders import folder_name
from composer_dataagent.streaming.partial import PartialShard
from composer_dataagent.streaming.reading import DamagedShardError, FastMDSReader, OpenMDSReader
from composer_dataagent.streaming.spans import Spans, coalesce, header_size, said_size
from composer_dataagent.streaming.tally import Tally

log = logging.getLogger(__name__)

BLOCK = 4096  # of most file systems
_SHARDS_AT_ONCE = 4
_FAILURES = 3  # in a row, until a remote is not asked for ranges any more
_WORTH_TRIMMING = 0.25  # share of the samples that are held


class NotHeldError(FileNotFoundError):
    """A sample is not held of a shard of which others are.

    A ``FileNotFoundError``, since that is how streaming's ``get_item`` learns that a shard must be
    prepared.
    """


@dataclass
class Ranges:
    """What the readers of a dataset's shards share.

    Attributes:
        costs (Costs): By which it is decided how a shard is fetched.
        needs (Needs): Of the epoch that runs.
        tally (Tally): What was fetched, and is held.
        wanted (dict[int, tuple[int, list[int]]]): What is wanted beside those, by each thread of
            this process: a shard, and numbers of samples within it.
        position (float): The share of the epoch up to which this process has shards prepared.
        worker (int): Which of the node's workers this process is.
        workers (int): How many there are.
        is_ahead (bool): Whether this process fetches for an epoch that has not begun.
        is_whole (bool): Whether what is not there is fetched whole.
        room (float): Shards for which the cache has room while they are on their way.
        failures (Counter[str]): How often in a row ranges of a remote could not be read.
    """

    costs: Costs
    needs: Needs
    tally: Tally
    wanted: dict[int, tuple[int, list[int]]] = field(default_factory=dict)
    position: float = 0.0
    worker: int = 0
    workers: int = 1
    is_ahead: bool = False
    is_whole: bool = False
    room: float = math.inf
    failures: Counter[str] = field(default_factory=Counter)

    def begin_epoch(self, worker: int, workers: int) -> None:
        """Be a worker of an epoch that begins."""
        self.worker, self.workers, self.position = worker, workers, 0.0
        self.failures.clear()
        self.serve(0)

    def serve(self, part: int) -> None:
        """Let the others know how far this worker is in the epoch."""
        if self.worker < self.workers:
            progress = self.tally.progress(self.workers)
            progress[min(self.worker, len(progress) - 1)] = part

    def shards_at_once(self) -> int:
        """How many shards this process prepares side by side."""
        if not multiprocessing.current_process().daemon:
            return 1  # this process has others fetch for it, and one of them
        return max(1, int(min(_SHARDS_AT_ONCE, self.room / self.workers)))

    def has_failed(self, remote: str) -> bool:
        """Whether it is no use to try to read ranges of a remote in this epoch."""
        return self.failures[remote] >= _FAILURES

    def done(self) -> int:
        """The part of the epoch that all workers of the node have served up to."""
        return 0 if self.is_ahead else int(self.tally.progress(self.workers).min())

    def want(self, shard_id: int, samples: list[int]) -> None:
        """Have this thread want some samples of a shard, until it wants others or no more."""
        self.wanted[threading.get_ident()] = shard_id, samples

    def want_no_more(self) -> None:
        """Have this thread want nothing beside what the epoch needs."""
        if self.wanted:
            self.wanted.pop(threading.get_ident(), None)

    def wanted_of(self, shard_id: int) -> list[int]:
        """What is wanted of a shard, beside what the epoch needs."""
        found = [some for shard, some in list(self.wanted.values()) if shard == shard_id]
        return [sample for some in found for sample in some]


class RangedMDSReader(FastMDSReader):
    """An MDS shard that is there whole or in part."""

    ranges: Ranges
    shard_id: int
    stream: Stream
    _complete: tuple[int, ...] | None = None  # see lacks

    def get_sample_data(self, idx: int) -> bytes:
        """The bytes of a sample. See :meth:`FastMDSReader.get_sample_data`.

        Raises:
            NotHeldError: The shard is there in part, without this sample.
        """
        try:
            data = self._read_held(idx)
        except FileNotFoundError:
            # What to fetch, whoever asks for it: a user's class may read one sample for another.
            self.ranges.want(self.shard_id, [idx])
            raise
        self.ranges.want_no_more()
        return data

    def _read_held(self, idx: int) -> bytes:
        file = self._open()
        if not isinstance(file, PartialShard):
            return self._read(file, idx)
        if not file.has(idx):
            self._close()  # another file may have come to its place
            if self._is_whole():  # another run's, perhaps
                return self._read(FastMDSReader._open(self), idx)
            raise NotHeldError(f"{self.partial_path} does not hold sample {idx}")
        try:
            data = self._read(file, idx)
            # Of a part whose book is damaged it may be a hole.
            if said_size(data, self.column_sizes) != len(data):
                raise DamagedShardError(f"{self.partial_path} is damaged in its sample {idx}")
            return data
        except DamagedShardError:
            self._forget_partial()
            raise

    def _open(self) -> Any:
        partial = self.partial()
        return super()._open() if partial is None else partial

    # ------------------------------------------------------------------ what is there

    @functools.cached_property
    def partial_path(self) -> str:
        """Where the shard is if it is there in part."""
        folder = os.path.join(self.dirname, self.split, folder_name())
        return os.path.join(folder, self.raw_data.basename)

    def partial(self, writable: bool = False) -> PartialShard | None:
        """The part that is there, if one is."""
        return open_partial(self.partial_path, self.samples, self.raw_data.bytes, writable)

    def missing(self) -> NDArray[np.int64]:
        """Sorted numbers of those samples that are needed or wanted and not there."""
        if self._is_whole():
            return np.empty(0, np.int64)
        lacking = self._needed()
        lacking[self.ranges.wanted_of(self.shard_id)] = True
        partial = self.partial()
        if partial is not None:
            lacking &= ~partial.held()
        return np.flatnonzero(lacking)

    def _needed(self) -> NDArray[np.bool_]:
        ranges = self.ranges
        return ranges.needs.of_shard(self.shard_id, ranges.done(), ranges.position)

    def is_partial(self) -> bool:
        """Whether the shard is there in part, with nothing wrong about that."""
        return self.partial() is not None

    def lacks(self) -> bool:
        """Whether the shard is there in part, without all that is needed or wanted."""
        try:
            found = os.stat(self.partial_path)
        except FileNotFoundError:
            return False
        needs = self.ranges.needs
        file = found.st_ino, found.st_ctime_ns
        known = *file, needs.serial, needs.until(self.ranges.position)
        if known == self._complete and not self.ranges.wanted_of(self.shard_id):
            return False
        if len(self.missing()):
            return True
        self._complete = known
        return False

    # ------------------------------------------------------------------ fetching

    def prepare(self, fetch_whole: Callable[[], int]) -> int:
        """Fetch what is missing; called by one process at a time.

        Args:
            fetch_whole (Callable[[], int]): Fetches the whole shard, and gives what
                ``Stream.prepare_shard`` gives.

        Returns:
            int: How many bytes more the cache has than before.
        """
        held = self.ranges.tally.held()
        before = int(held[self.shard_id])
        missing = self.missing()
        is_there = not len(missing) and self.is_partial()
        if is_there or (self._reads(missing) is not None and not self._fetch(missing)):
            partial = self.partial()
            after = partial.bytes_on_disk() if partial is not None else 0
            held[self.shard_id] = after
            return after - before
        self.ranges.tally.reserved()[self.shard_id] = super().get_max_size()
        change = fetch_whole()
        self._remove_partial()
        return change - before

    def _reads(self, missing: NDArray[np.int64]) -> tuple[int, Spans] | None:
        """What to read, as far as is known: bytes of the header, if it is not there, and ranges.

        Nothing where the shard is there whole, or is better fetched so.
        """
        ranges = self.ranges
        if ranges.is_whole or self._is_whole() or ranges.has_failed(self._remote()):
            return None
        partial = self.partial()
        header, offsets = header_size(self.samples), None
        if partial is not None:
            try:
                header, offsets = 0, partial.offsets()
            except ValueError:  # it is damaged
                self._forget_partial()
        if offsets is None:  # where they are is not known yet: as if all had one size
            offsets = np.linspace(header, self.raw_data.bytes, self.samples + 1).astype(np.int64)
        spans = coalesce(missing, offsets, ranges.costs.gap)
        requests = len(spans) + bool(header)
        size = header + sum(end - begin for begin, end in spans)
        is_better_whole = ranges.costs.whole_is_cheaper(requests, size, self.raw_data.bytes)
        return None if is_better_whole else (header, spans)

    def _remote(self) -> str:
        remote = os.path.join(self.stream.remote or "", self.stream.split or "")
        # Another process may fetch, from where this one was when that was started.
        return remote if "://" in remote else os.path.abspath(remote)

    def _fetch(self, missing: NDArray[np.int64]) -> str:
        """Why it failed; empty if it did not.

        Raises:
            OSError: The disk is full.
        """
        stream, ranges = self.stream, self.ranges
        order = Order(
            remote=self._remote(),
            key=self.raw_data.basename,
            path=os.path.abspath(self.partial_path),
            samples=self.samples,
            size=self.raw_data.bytes,
            column_sizes=tuple(self.column_sizes),
            wanted=missing,
            gap=ranges.costs.gap,
            concurrency=max(1, ranges.costs.concurrency // ranges.shards_at_once()),
            timeout=stream.download_timeout,
            attempts=stream.download_retry,
        )
        traffic = fetch_safely(order)
        ranges.tally.count(traffic.requests, traffic.bytes)
        if not traffic.failure:
            del ranges.failures[order.remote]
            return ""
        if traffic.is_full:  # a whole shard would need even more room
            raise OSError(errno.ENOSPC, traffic.failure, self.partial_path)
        log.warning("%s is fetched whole: %s", self.raw_data.basename, traffic.failure)
        ranges.failures[order.remote] += 1
        if ranges.has_failed(order.remote):
            log.warning(
                "%d shards in a row of %s could not be read by ranges: this process fetches all "
                "others of the epoch whole",
                _FAILURES,
                order.remote,
            )
        return traffic.failure

    def adopt(self) -> int:
        """Bytes of the part that an earlier run left; one that is of no use any more is removed."""
        partial = self.partial()
        if partial is None or self._is_whole():
            self._remove_partial()
            return 0
        return partial.bytes_on_disk()

    def _remove_partial(self) -> None:
        self._forget_partial()
        self.ranges.tally.held()[self.shard_id] = 0

    def _forget_partial(self) -> None:
        """Remove the file, which the cache counts until the shard is evicted or fetched again."""
        self._close()
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.partial_path)

    # ------------------------------------------------------------------ what streaming asks

    def get_max_size(self) -> int:
        """What the cache must have room for, to prepare the shard, which is about to begin.

        Stock code counts a shard when it has come, and so forgets those that are under way.
        """
        size = super().get_max_size()
        missing = self.missing()
        reads = self._reads(missing)
        if not len(missing) and self.is_partial():
            size = 0  # all is there
        elif reads is not None:
            header, spans = reads
            spans = [(0, header), *spans]
            blocks = sum(-(-end // BLOCK) - begin // BLOCK for begin, end in spans)
            size = (blocks + 4) * BLOCK  # for header and what is held
        reserved = self.ranges.tally.reserved()
        reserved[self.shard_id] = size
        return int(reserved.sum())

    def get_persistent_size(self, keep_zip: bool) -> int:
        """What the cache counts for the shard while it is there."""
        held = int(self.ranges.tally.held()[self.shard_id])
        return held or super().get_persistent_size(keep_zip)

    def evict(self) -> int:
        """Delete the shard, whole or in part; gives what the cache counted for it."""
        whole = super().evict()
        held = int(self.ranges.tally.held()[self.shard_id])
        self._remove_partial()
        return whole + held

    def has_served(self, share: float) -> bool:
        """Whether the epoch needs no more at least this share of the samples that are held."""
        partial = self.partial()
        if partial is None:
            return False
        held = partial.held()
        later = held & self.ranges.needs.of_shard(self.shard_id, self.ranges.done(), 1.0)
        served = int(held.sum() - later.sum())
        return served > 0 and served >= share * held.sum()

    def trim(self) -> int:
        """Delete samples that the epoch needs no more; gives what the cache counted for them.

        The others go into a new file: who reads from the old one has it open.
        """
        partial = self.partial()
        if partial is None:
            return 0
        later = self.ranges.needs.of_shard(self.shard_id, self.ranges.done(), 1.0)
        kept = np.flatnonzero(partial.held() & later)
        try:
            partial.copy(self.partial_path, kept)
        except ValueError:  # it is damaged, so that nothing of it can be kept
            self._forget_partial()
        except OSError:  # no room for the copy: something else has to go
            return 0
        self._close()
        after = self.partial()
        held = self.ranges.tally.held()
        freed = int(held[self.shard_id]) - (after.bytes_on_disk() if after is not None else 0)
        held[self.shard_id] -= freed
        return freed

    def evict_unfinished(self) -> None:
        """Delete what was downloaded whole; what is held of a shard in part is sound."""
        super().evict()
        self.ranges.tally.reserved()[self.shard_id] = 0

    def _is_whole(self) -> bool:
        try:
            return os.stat(self._path).st_size == self.raw_data.bytes
        except FileNotFoundError:
            return False


def has_served(shard: Any) -> bool:
    """Whether a shard is there in part, and much of that the epoch needs no more."""
    return isinstance(shard, RangedMDSReader) and shard.has_served(_WORTH_TRIMMING)


def lacks(shard: Any) -> bool:
    """Whether a shard is there in part, without all that is needed or wanted."""
    return isinstance(shard, RangedMDSReader) and shard.lacks()


class OpenRangedMDSReader(OpenMDSReader, RangedMDSReader):
    """The same, whose file stays open."""
