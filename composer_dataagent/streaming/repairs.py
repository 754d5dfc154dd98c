# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Repairs of StreamingDataset's threads, shards and resumption: no word of selection here.

Everything mends a defect of ``streaming`` 0.13.0 and can go when upstream has mended it; each
override says which defect:

- ``_resume`` and ``load_state_dict`` open shared memory anew at each call and never close it.
- ``state_dict`` names, between two epochs, the one that ended.
- ``_get_work`` waits forever for a shard that a killed process was preparing.
- ``__iter__`` and ``on_exception`` end an epoch early, without a word, when a thread failed.
- ``__iter__`` uses threads and file locks of the process that it was forked from, and after one
  failure refuses ever to iterate again.
- ``_prepare_thread`` that failed is waited for by the next iteration, forever.
- ``_ready_thread`` asks for a shard once and then waits forever.
- ``prepare_shard`` leaves a shard that failed "preparing", and a file whose hash is wrong in place;
  and it takes a file lock for each sample, also of shards that are there.
- ``__reduce_ex__``: once iterated, the dataset cannot be pickled.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
from collections.abc import Iterator
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
from streaming.base.world import World

from composer_dataagent.streaming.errors import ShardError, ShortEpochError

# What a process makes for itself when it iterates or reads. Threads and file locks do not survive a
# fork, and none of it can be pickled.
_OF_ONE_PROCESS = ("_iterator", "_executor", "_event", "_cache_filelock", "_failure", "_turn")


@functools.cache
def repaired(cls: type[StreamingDataset]) -> type[Any]:
    """The subclass of a dataset class that has upstream's defects mended.

    It adds no slots and has one base, so that an object's ``__class__`` may be set to it; then set
    the object's ``process_id`` too. To be pickled it needs a subclass that knows how to make it.

    Args:
        cls (type[StreamingDataset]): Any subclass that does not override ``__iter__``.

    Returns:
        type[Any]: One class per ``cls``, of the same name.
    """

    class Repaired(cls):  # type: ignore[valid-type, misc]
        process_id: int  # where it was made, or has iterated last
        predownload: int  # the constructor replaces None

        # ------------------------------------------------------------------ resumption

        def loaded_state(self) -> dict[str, Any] | None:
            """What ``load_state_dict`` was called with last, in whichever process of this node."""
            try:
                shm = SharedMemory(
                    name=_get_path(self._shm_prefix_int, RESUME), create=False, auto_cleanup=False
                )
            except FileNotFoundError:
                return None
            text = bytes(shm.buf).split(b"\0", 1)[0]
            shm.shm.close()
            return json.loads(text)

        def _resume(self, world: World, epoch: int) -> tuple[int, int]:
            # Stock code opens the state anew in each call and keeps it open until the process ends:
            # two file descriptors for each checkpoint and each look at the upcoming epoch.
            state = self.loaded_state()
            if state is None:
                return super()._resume(world, epoch)  # which opens nothing, and sets the defaults
            if state["epoch"] < epoch:
                if not self.num_canonical_nodes:
                    per_node = 64 if self.shuffle_algo in ("py1s", "py2s") else 1
                    self.num_canonical_nodes = per_node * world.num_nodes
                sample_in_epoch = 0
            else:
                epoch, sample_in_epoch = state["epoch"], state["sample_in_epoch"]
                self.num_canonical_nodes = state["num_canonical_nodes"]
                self.shuffle_seed = state["shuffle_seed"]
                self.initial_physical_nodes = state.get("initial_physical_nodes")
            self._set_shuffle_block_size(world)
            return epoch, sample_in_epoch

        def load_state_dict(self, obj: dict[str, Any]) -> None:
            # Stock code opens it once more for each state, and closes none.
            before: SharedMemory | None = vars(self).get("_resume_shm")
            super().load_state_dict(obj)
            opened = self._resume_shm
            if before is not None and opened.opened_shms:
                atexit.unregister(opened.cleanup)
                opened.cleanup()  # not the one that made it, so this closes and does not delete
                self._resume_shm = before

        def upcoming_epoch(self) -> int:
            """The streaming epoch that the next iteration runs, a pending resume included."""
            epoch, _ = self._resume(self._parallel_rank_world, self.next_epoch)
            return epoch

        def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
            state = super().state_dict(num_samples, from_beginning)
            if num_samples == 0 and (from_beginning or state["epoch"] < 0):
                # Between two epochs, or before the first. Stock code names the one that ended,
                # which a resumed run would then run again.
                state["epoch"] = self.upcoming_epoch()
            return state

        # ------------------------------------------------------------------ served equals planned

        def _get_work(self, epoch: int, sample_in_epoch: int) -> NDArray[np.int64]:
            if self._unique_worker_world.is_local_leader:
                # The others wait for the leader's plan: nobody downloads, so what is still
                # "preparing" was left so by a process that was killed, and stock code would wait
                # for it forever.
                states = self._shard_states.numpy()
                states[states == _ShardState.PREPARING] = _ShardState.REMOTE
            work = super()._get_work(epoch, sample_in_epoch)
            self._planned = (epoch, int((work != -1).sum()))
            return work

        def __iter__(self) -> Iterator[Any]:
            self._start_clean()
            self._turn = turn = object()
            served = 0
            try:
                for sample in super().__iter__():
                    served += 1
                    yield sample
            except RuntimeError:
                # get_item's way to say that a background thread failed is not the cause.
                if self._failure is None:
                    raise
            if self._turn is not turn:
                return  # a newer iteration took over, which ends this one early by design
            epoch, planned = self._planned
            if served != planned:
                # Stock code ends the epoch here, as if it were complete.
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

        # ------------------------------------------------------------------ threads

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

        # ------------------------------------------------------------------ shards

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
            vars(self._shared_barrier).pop("lock", None)  # made anew where there is none
            reduced: Any = super().__reduce_ex__(protocol)
            make, arguments, state, *rest = reduced
            state = {name: v for name, v in state.items() if name not in _OF_ONE_PROCESS}
            return (make, arguments, state, *rest)

    return named_after(cls, Repaired)


def named_after(cls: type, made: type) -> type[Any]:
    """Give a class the name and the documentation of the user's class that it was made for."""
    made.__name__, made.__qualname__ = cls.__name__, cls.__qualname__
    made.__module__, made.__doc__ = cls.__module__, cls.__doc__
    return made
