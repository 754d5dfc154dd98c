# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A StreamingDataset that serves exactly the selected ids: a subclass made for the user's class."""

from __future__ import annotations

import functools
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from threading import Event
from time import sleep
from traceback import clear_frames
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming import StreamingDataset
from streaming.base.constant import RESUME, TICK
from streaming.base.dataset import _Iterator, _ShardState
from streaming.base.shared import SharedMemory
from streaming.base.shared.prefix import _get_path

from composer_dataagent.streaming.errors import (
    SelectionCorruptError,
    ShardError,
    ShortEpochError,
)
from composer_dataagent.streaming.shard_index import are_set, shuffle_units
from composer_dataagent.streaming.store import SelectionRecord, SelectionStore

# What a process makes for itself when it iterates or reads. Threads and file locks do not survive a
# fork, and none of it can be pickled.
_OF_ONE_PROCESS = ("_iterator", "_executor", "_event", "_cache_filelock", "_failure", "_turn")


@functools.cache
def selective(cls: type[StreamingDataset]) -> type[StreamingDataset]:
    """The selective subclass of a user's dataset class.

    Selection is injected in ``resample_streams`` alone: partition, shuffle, resumption and eviction
    are streaming's own and happen downstream of it. The subclass adds no slots and one base only,
    which is what Python asks for before an object's ``__class__`` may be set to it.

    Args:
        cls (type[StreamingDataset]): Any subclass, ``__getitem__`` overridden or not.

    Returns:
        type[StreamingDataset]: One class per ``cls``, of the same name.
    """

    class Selective(cls):  # type: ignore[valid-type, misc]
        # Set by streaming.attach.
        selection_store: SelectionStore
        recent_ids: deque[int]  # of the samples that this process yielded last; see IdCollate
        process_id: int
        predownload: int  # the constructor replaces None

        # ------------------------------------------------------------------ what is served

        def resample_streams(
            self, epoch: int, stream_id: int | None = None
        ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            del stream_id  # batching methods that sample per stream are refused by attach
            ids, _ = self.selection_store.read(epoch)
            # The leader alone is here, and the others wait: nobody downloads, so what is still
            # "preparing" was left so by a worker that was killed, and would be waited for forever.
            states = self._shard_states.numpy()
            states[states == _ShardState.PREPARING] = _ShardState.REMOTE
            # batching/random.py reads this right after calling us, in this process.
            self.epoch_size = len(ids)
            return shuffle_units(ids, self.samples_per_shard), ids

        def _get_work(self, epoch: int, sample_in_epoch: int) -> NDArray[np.int64]:
            # Every process checks, and before the barriers inside: where the leader alone fails,
            # the others wait for it forever.
            bits, record = self.selection_store.open(epoch)
            if sample_in_epoch > 0:
                self._check_resumed(epoch, record)
            work = super()._get_work(epoch, sample_in_epoch)
            planned = work[work != -1]
            if not are_set(bits, planned).all():
                raise SelectionCorruptError(
                    f"The leading rank of this node serves samples in epoch {epoch} that this rank "
                    "did not select: select the same samples on every rank, between two epochs"
                )
            self._planned = (epoch, len(planned))
            return work

        def _check_resumed(self, epoch: int, record: SelectionRecord) -> None:
            """Refuse to finish an epoch with another selection than it began with."""
            shm = SharedMemory(
                name=_get_path(self._shm_prefix_int, RESUME), create=False, auto_cleanup=False
            )
            saved = json.loads(bytes(shm.buf).split(b"\0", 1)[0]).get("selection")
            shm.shm.close()
            if saved is not None and saved["digest"] != record.digest:
                raise SelectionCorruptError(
                    f"The checkpoint was written in the middle of epoch {epoch} with another "
                    f"selection ({saved['size']} samples, digest {saved['digest'][:12]}) than the "
                    f"one that is published now ({record.size} samples, digest "
                    f"{record.digest[:12]}): select the same samples before resuming"
                )

        def upcoming_epoch(self) -> int:
            """The streaming epoch that the next iteration runs, pending resume included."""
            epoch, _ = self._resume(self._parallel_rank_world, self.next_epoch)
            return epoch

        def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
            state = super().state_dict(num_samples, from_beginning)
            if num_samples == 0 and (from_beginning or state["epoch"] < 0):
                # Between two epochs, or before the first. Stock code names the one that ended,
                # which a resumed run would then run again.
                state["epoch"] = self.upcoming_epoch()
            _, record = self.selection_store.open(state["epoch"])
            return {**state, "selection": {"size": record.size, "digest": record.digest}}

        # ------------------------------------------------------------------ served equals planned

        def __iter__(self) -> Iterator[Any]:
            self._start_clean()
            self._turn = turn = object()
            served = 0
            try:
                for sample in super().__iter__():
                    served += 1
                    self.recent_ids.append(self._serving)
                    yield sample
            except RuntimeError:
                # get_item's way to say that a background thread failed is not the cause.
                if self._failure is None:
                    raise
            if self._turn is not turn:
                return  # a newer iteration took over, which ends this one early by design
            epoch, planned = self._planned
            if served != planned:
                raise ShortEpochError(
                    f"Epoch {epoch} ended after {served} of the {planned} samples that this "
                    f"process had to serve. Cause: {self._failure!r}"
                ) from self._failure

        def _start_clean(self) -> None:
            """Leave behind what another process or an epoch that failed has left in this object."""
            if self.process_id != os.getpid():
                # Of the process that forked this one: its threads do not run here, and filelock
                # refuses an inherited lock.
                for name in _OF_ONE_PROCESS:
                    vars(self).pop(name, None)
                vars(self._shared_barrier).pop("lock", None)
                self.process_id = os.getpid()
            if hasattr(self, "_iterator"):
                self._iterator.exit()
            if hasattr(self, "_event") and self._event.is_set():
                self._event = Event()  # that failure was reported; this is a new try
            self._failure: BaseException | None = None

        def _each_sample_id(self, it: _Iterator) -> Iterator[int]:
            for sample_id in super()._each_sample_id(it):
                # __iter__ maps __getitem__ over this one id at a time.
                self._serving = int(sample_id)
                yield sample_id

        def _prepare_thread(self, it: _Iterator) -> None:
            try:
                super()._prepare_thread(it)
            except BaseException:
                it.on_exit()  # the next iteration waits for it
                raise

        def _ready_thread(self, it: _Iterator) -> None:
            # Stock code asks for a shard once and then waits: forever, if the process that
            # downloads it fails, or if it is evicted meanwhile.
            try:
                while not (it.should_exit() or self._event.is_set() or it.ready_index == it.total):
                    if it.ready_index - it.yield_index > self.predownload:
                        sleep(TICK)
                        continue
                    sample_id = it.sample_ids[it.ready_index]
                    if sample_id != -1:
                        shard_id, _ = self.spanner[sample_id]
                        if self._shard_states[shard_id] == _ShardState.REMOTE:
                            self.prepare_shard(shard_id, False)
                            continue
                        if self._shard_states[shard_id] != _ShardState.LOCAL:
                            sleep(TICK)
                            continue
                    it.ready_index += 1
            finally:
                it.on_exit()

        def on_exception(self, future: Future) -> None:
            # Stock code raises here, in a thread where nobody listens, and the epoch ends short.
            # Keep the cause for __iter__ before waking it up.
            failure = future.exception()
            if failure is not None:
                clear_frames(failure.__traceback__)  # they may hold the cache's file lock
                self._failure = failure
                self._event.set()

        def prepare_shard(self, shard_id: int, blocking: bool = True) -> None:
            before = self._shard_states[shard_id]
            if before == _ShardState.LOCAL and not blocking and self.cache_limit is None:
                # The prepare thread asks for every sample. Stock code makes a file lock each time,
                # which costs more than the read, and notes the time, which only eviction needs.
                return
            try:
                super().prepare_shard(shard_id, blocking)
            except BaseException as error:
                if before != _ShardState.PREPARING:
                    self._give_up(shard_id)
                if not isinstance(error, Exception):
                    raise
                stream = self.streams[self.stream_per_shard[shard_id]]
                raise ShardError(
                    f"Shard {self.shards[shard_id].file_pairs[0][0].basename} of "
                    f"remote={stream.remote!r}, local={stream.local!r} is not available: {error!r}"
                ) from error

        def _give_up(self, shard_id: int) -> None:
            """Let others try a shard that this process failed to prepare."""
            # Stock code leaves it "preparing", and every other process waits for it forever; and it
            # leaves a file whose hash is wrong, which passes for good later.
            if self._shard_states[shard_id] == _ShardState.PREPARING:
                stream = self.streams[self.stream_per_shard[shard_id]]
                if stream.remote not in (None, stream.local):
                    self.shards[shard_id].evict()
                self._shard_states[shard_id] = _ShardState.REMOTE

        # ------------------------------------------------------------------ spawned workers

        def __reduce_ex__(self, protocol: Any) -> Any:
            # They cannot import this class by name: send the user's and make it again.
            vars(self._shared_barrier).pop("lock", None)  # made anew where there is none
            reduced: Any = super().__reduce_ex__(protocol)
            _, _, state, *rest = reduced
            state = {name: v for name, v in state.items() if name not in _OF_ONE_PROCESS}
            return (_new, (cls,), state, *rest)

    Selective.__name__, Selective.__qualname__ = cls.__name__, cls.__qualname__
    Selective.__module__, Selective.__doc__ = cls.__module__, cls.__doc__
    return Selective


def is_selective(dataset: StreamingDataset) -> bool:
    """Whether the dataset was made selective."""
    return hasattr(type(dataset), "upcoming_epoch")


def _new(cls: type[StreamingDataset]) -> StreamingDataset:
    selective_cls: Callable[..., type[StreamingDataset]] = selective
    return object.__new__(selective_cls(cls))
