# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Repairs of StreamingDataset's threads, shards and resumption: no word of selection here.

Everything mends a defect of ``streaming`` 0.12.0 and 0.13.0, which are alike in all that is
overridden here, and can go when upstream has mended it; each override says which defect:

- ``_resume`` and ``load_state_dict`` open shared memory anew at each call and never close it.
- ``load_state_dict`` has no effect where later epochs have run.
- ``state_dict`` names, between two epochs, the one that ended.
- ``_get_work`` waits forever for a shard that a killed process was preparing, and holds the plan of
  all workers in memory three times.
- ``__iter__`` ends an epoch early, without a word, when a thread failed.
- ``__iter__`` uses threads and file locks of the process that it was forked from, and connections
  to an object store, over which all its forks then talk at once: shards have the wrong content, or
  none for a minute. And after one failure it refuses ever to iterate again.
- ``_prepare_thread`` that failed is waited for by the next iteration, forever.
- ``_ready_thread`` asks for a shard once and then waits forever; both threads ask for the shard of
  each sample.
- ``_evict_shard`` fails once the process that fetched a shard was killed before it counted it.
- ``prepare_shard`` leaves a shard that failed "preparing", and a file whose hash is wrong in place;
  it serves a file that was cut off as far as it goes, and one of a wrong hash that it finds in the
  cache; and it takes a file lock for each sample, also of shards that are there.
- ``__reduce_ex__``: once iterated, the dataset cannot be pickled.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import json
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.shared_memory import SharedMemory as BuiltinSharedMemory
from threading import Event
from time import sleep, time_ns
from traceback import clear_frames, walk_tb
from typing import Any

import numpy as np
from filelock import BaseFileLock, FileLock
from numpy.typing import NDArray
from streaming import StreamingDataset
from streaming.base.array import Array
from streaming.base.batching import generate_work
from streaming.base.constant import EPOCH_DATA, EPOCH_SHAPE, RESUME, TICK
from streaming.base.dataset import NEVER, _Iterator, _ShardState
from streaming.base.shared import SharedMemory
from streaming.base.shared.prefix import _get_path
from streaming.base.world import World

from composer_dataagent.streaming.errors import ShardError, ShortEpochError, in_words
from composer_dataagent.streaming.folders import remove_file
from composer_dataagent.streaming.prefetch import follow, prepare_ahead
from composer_dataagent.streaming.presence import (
    Presence,
    WatchfulBarrier,
    presence_path,
    remove_abandoned,
    watchful,
)
from composer_dataagent.streaming.shards import (
    can_be_fetched,
    damage_of,
    evict_unfinished,
    is_of_download,
    is_unpacked,
    wrong_hash_of,
)

# What a process makes for itself when it iterates or reads. Threads and file locks do not survive a
# fork, and none of it can be pickled.
_OF_ONE_PROCESS = ("_iterator", "_executor", "_event", "_failure", "_turn")

# How often a text that another process may be writing is read.
_TRIES = 100


@functools.cache
def repaired(cls: type[StreamingDataset]) -> type[Any]:
    """The subclass of a dataset class that has upstream's defects mended.

    It adds no slots and has one base, so that an object's ``__class__`` may be set to it; then set
    the object's ``process_id`` and call ``watch``. To be pickled it needs a subclass that knows how
    to make it.

    Args:
        cls (type[StreamingDataset]): Any subclass that does not override ``__iter__``.

    Returns:
        type[Any]: One class per ``cls``, of the same name.
    """
    takes_one_id = cls.__getitem__ is Array.__getitem__

    class Repaired(cls):  # type: ignore[valid-type, misc]
        process_id: int  # where it was made, or has iterated last
        presence: Presence  # see watch
        _found: set[int]  # shards that were there before this run, and are to be validated
        _failure: BaseException | None  # of a background thread
        _planned: tuple[int, int]  # the epoch that runs, and how many samples this process serves
        _turn: object  # of the iteration that began last
        ranges: Any = None  # None: no shard is there in part
        _plan_parts = (EPOCH_SHAPE, EPOCH_DATA)

        # ------------------------------------------------------------------ resumption

        def loaded_state(self) -> dict[str, Any] | None:
            """What ``load_state_dict`` was called with last, in whichever process of this node."""
            try:
                shm = SharedMemory(
                    name=_get_path(self._shm_prefix_int, RESUME), create=False, auto_cleanup=False
                )
            except FileNotFoundError:
                return None
            try:
                for tries_left in reversed(range(_TRIES)):
                    text = bytes(shm.buf).split(b"\0", 1)[0]
                    if not text:
                        break  # another rank has made it, and is about to write
                    try:
                        return json.loads(text)
                    except ValueError:  # it is writing
                        if not tries_left:
                            raise
                        sleep(TICK)
                return None
            finally:
                shm.shm.close()

        def _resume(self, world: World, epoch: int) -> tuple[int, int]:
            # Stock code opens the state anew in each call and keeps it open until the process ends:
            # two file descriptors for each checkpoint and each look at the upcoming epoch.
            state = self.loaded_state()
            if state is None or state["epoch"] < epoch:
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
            # Stock code opens it once more for each state, and closes none; and where epochs have
            # run already, it takes a state of one of them for an old one, and leaves it aside.
            before: SharedMemory | None = vars(self).get("_resume_shm")
            super().load_state_dict(obj)
            opened = self._resume_shm
            if before is not None and opened.opened_shms:
                atexit.unregister(opened.cleanup)
                opened.cleanup()  # not the one that made it, so this closes and does not delete
                self._resume_shm = before
            if obj["epoch"] >= 0:
                self.next_epoch = obj["epoch"]

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
            # As in stock code: the node's leader plans for all, and shows it in shared memory.
            barrier = self._shared_barrier
            if not hasattr(barrier, "lock"):  # it cannot be pickled, so it is made late
                barrier.lock = FileLock(barrier.filelock_path)
            unique, parallel = self._unique_worker_world, self._parallel_worker_world
            # Whoever fails goes through both barriers first: the others would wait there forever,
            # and in later epochs too.
            failure: Exception | None = None
            plan: NDArray | None = None
            shared: Sequence[SharedMemory | None] = ()
            try:
                self._check_epoch(epoch, sample_in_epoch)
            except Exception as error:
                failure = error
            if unique.is_local_leader:
                # What is still "preparing" may have been left so by a process that was killed, and
                # stock code would wait for it forever.
                left = np.flatnonzero(self._shard_states.numpy() == _ShardState.PREPARING)
                for shard_id in left.tolist():
                    with self.presence.preparing(shard_id) as alone:
                        if alone:
                            self._give_up(shard_id)  # and a file that was not validated yet
                if failure is None:
                    try:
                        plan = self._generate_work(parallel, epoch, sample_in_epoch)
                        shared = self._share_work(plan)
                    except Exception as error:
                        failure = error
                barrier(unique.workers_per_node)
            else:
                barrier(unique.workers_per_node)
                if failure is None:
                    try:
                        plan, *shared = self._attach_work()
                    except FileNotFoundError:
                        failure = self.presence.missing() or ShortEpochError(
                            f"The leading process of this node could not plan epoch {epoch}: see "
                            "its error"
                        )
                    except Exception as error:
                        failure = error
            mine = (parallel.node, parallel.rank_of_node, parallel.worker_of_rank)
            work = np.empty(0, np.int64) if plan is None else plan[mine].flatten().astype(np.int64)
            del plan
            barrier(unique.workers_per_node)
            for memory in shared:
                if memory is not None:
                    memory.cleanup()
            if failure is None:
                failure = self.presence.missing()
            if failure is not None:
                raise failure
            self._planned = (epoch, int((work != -1).sum()))
            return work

        def _check_epoch(self, epoch: int, sample_in_epoch: int) -> None:
            """Raise what keeps this process from running the epoch."""

        def _generate_work(self, world: World, epoch: int, sample_in_epoch: int) -> NDArray:
            """The plan of all workers, see streaming's function of this name."""
            return generate_work(self.batching_method, self, world, epoch, sample_in_epoch)

        def _share_work(  # type: ignore[override]  # a subclass may share more
            self, sample_ids: NDArray
        ) -> tuple[SharedMemory | None, ...]:
            # Stock code has the plan in memory three times at once.
            shape = np.array(sample_ids.shape, np.int64)
            shape_memory = self._make_shared(EPOCH_SHAPE, shape)
            if not sample_ids.size:
                return shape_memory, None
            try:
                return shape_memory, self._make_shared(EPOCH_DATA, sample_ids)
            except BaseException:
                shape_memory.cleanup()  # whoever tries again makes it anew
                raise

        def _make_shared(self, name: str, content: NDArray) -> SharedMemory:
            memory = SharedMemory(
                name=_get_path(self._shm_prefix_int, name),
                create=True,
                size=content.size * np.int64().nbytes,
                auto_cleanup=False,
            )
            try:
                _reserve(memory.shm)
            except OSError as error:
                memory.cleanup()
                raise OSError(
                    error.errno,
                    f"The epoch's plan needs {memory.shm.size:,} bytes of shared memory, but there "
                    f"is no room for them: {error.strerror}. Enlarge /dev/shm (containers often "
                    "have 64 MB: docker run --shm-size=8g)",
                ) from error
            np.copyto(np.ndarray(content.shape, np.int64, buffer=memory.buf), content)
            return memory

        def watch(self) -> None:
            """Notice from now on when processes that are waited for have ended.

            Called once in each rank, where the dataset was made.
            """
            world = self._unique_rank_world
            # All ranks have the same shared memory open. Its own name comes again in later runs.
            memory = os.fstat(self._locals_shm.shm._fd)  # type: ignore[attr-defined]
            prefix = f"{self._shm_prefix_int:06}"
            path = presence_path(self._filelock_root, prefix, memory)
            if world.is_local_leader:
                remove_abandoned(self._filelock_root)
            self.presence = Presence(path, world.ranks_per_node)
            self.presence.arrive(world.rank_of_node)
            there = np.flatnonzero(self._shard_states.numpy() == _ShardState.LOCAL)
            self._found = {
                shard_id
                for shard_id in there.tolist()
                if self.streams[int(self.stream_per_shard[shard_id])].validate_hash
            }
            if world.is_local_leader:
                # Which copies of the dataset share.
                weakref.finalize(self.presence, remove_file, path, os.getpid())
            self._shared_barrier.__class__ = WatchfulBarrier
            vars(self._shared_barrier)["presence"] = self.presence

        def start_over(self) -> None:
            """Undo what killed workers of this process left in shared memory.

            They are waited for in streaming's barrier, forever, also in later epochs.
            """
            if self._unique_rank_world.ranks_per_node > 1:
                return  # other ranks use it at this moment
            barrier = self._shared_barrier
            barrier.num_enter, barrier.num_exit, barrier.flag = 0, -1, True
            for name in self._plan_parts:
                with contextlib.suppress(FileNotFoundError):
                    path = _get_path(self._shm_prefix_int, name)
                    left = SharedMemory(name=path, create=False, auto_cleanup=False).shm
                    left.close()
                    left.unlink()

        def __iter__(self) -> Iterator[Any]:
            self._start_clean()
            self._turn = turn = object()
            served = 0
            try:
                for sample in super().__iter__():
                    served += 1
                    yield sample
            except RuntimeError as error:
                # get_item's way to say that a background thread failed is not the cause.
                if self._failure is None or not str(error).startswith("Background thread failed"):
                    raise
            if self._turn is not turn:
                # Stock code ends the older one, as if its epoch were complete.
                raise ShortEpochError(
                    f"Another iteration over this dataset began when this one had served {served} "
                    "samples, and a StreamingDataset runs one at a time: make a dataset for each"
                )
            epoch, planned = self._planned
            if served != planned:
                # Stock code ends the epoch here, as if it were complete.
                raise ShortEpochError(
                    f"Epoch {epoch} ended after {served} of the {planned} samples that this "
                    f"process had to serve. Cause: {in_words(self._failure)}"
                ) from self._failure

        def get_item(self, sample_id: int, *args: Any, **kwargs: Any) -> Any:
            self.validate_shard_of(sample_id)
            return super().get_item(sample_id, *args, **kwargs)

        def validate_shard_of(self, sample_id: int) -> None:
            """Validate what was in the cache before this run; stock code serves it unseen."""
            if self._found:
                shard_id, _ = self.spanner[sample_id]
                if shard_id in self._found:
                    self.prepare_shard(shard_id)

        def __getitem__(self, at: Any) -> Any:
            try:
                # Stock code makes five calls to find out that a number of NumPy's is one.
                if type(at) is np.int64 and at >= 0 and takes_one_id:
                    return self.get_item(at)  # type: ignore[arg-type]  # as stock code does
                return super().__getitem__(at)  # type: ignore[arg-type]
            except StopIteration as error:
                # Stock code would take it for the end of the epoch.
                raise RuntimeError(f"Sample {at}: the dataset raised StopIteration") from error

        def leave_parent(self) -> None:
            """Leave behind what belongs to the process that forked this one."""
            # Its threads do not run here, and filelock refuses an inherited lock.
            if self.process_id != os.getpid():
                for name in _OF_ONE_PROCESS:
                    vars(self).pop(name, None)
                vars(self)["_cache_filelock"] = None
                vars(self._shared_barrier).pop("lock", None)
                # Workers that talk over one connection read one another's answers.
                for stream in self.streams:
                    stream._downloader.clean_up()
                self.process_id = os.getpid()

        def _start_clean(self) -> None:
            """Leave behind what another process or an epoch that failed has left in this object."""
            self.leave_parent()
            if hasattr(self, "_iterator"):
                self._iterator.exit()
                # Stock code has each epoch's kept until the process ends, for threading's exit.
                self._iterator.sample_ids = np.empty(0, np.int64)
            if hasattr(self, "_event") and self._event.is_set():
                self._event = Event()  # that failure was reported; this is a new try
            self._failure = None

        # ------------------------------------------------------------------ threads

        def _prepare_thread(self, it: _Iterator) -> None:
            self._run_in_thread(prepare_ahead, it)

        def _ready_thread(self, it: _Iterator) -> None:
            self._run_in_thread(follow, it)

        def _run_in_thread(self, body: Callable[[Any, _Iterator], None], it: _Iterator) -> None:
            try:
                body(self, it)
            except BaseException as failure:
                # Stock code raises it where nobody listens, and the epoch ends short. Keep the
                # cause for __iter__ before waking it up.
                clear_frames(failure.__traceback__)  # they may hold the cache's file lock
                self._failure = failure
                self._event.set()
            finally:
                it.on_exit()  # the next iteration waits for it

        # ------------------------------------------------------------------ shards

        def prepare_shard(self, shard_id: int, blocking: bool = True) -> None:
            stream = self.streams[self.stream_per_shard[shard_id]]
            shard = self.shards[shard_id]
            if self._shard_states[shard_id] == _ShardState.LOCAL:
                damage = damage_of(shard, stream) or self._damage_inside(shard_id)
                if damage is None and is_unpacked(shard, stream):
                    # Stock code makes a file lock here, which costs more than the read.
                    self._shard_access_times[shard_id] = time_ns()  # for eviction
                    return
                if damage is not None:
                    self._discard(shard_id, damage)
                    self._found.discard(shard_id)
            for failures in itertools.count(1):
                with self.presence.preparing(shard_id) as alone:
                    cause, is_worth_it = None, False
                    if alone:
                        # "Preparing" it is then only if whoever did that was killed, and left
                        # perhaps a file that was not validated yet.
                        self._give_up(shard_id)
                        cause, is_worth_it = self._try_to_prepare(shard_id)
                if not alone and blocking:
                    watchful(self.presence, lambda: not self.presence.is_prepared(shard_id))
                if cause is None:
                    return
                if not is_worth_it or failures >= stream.download_retry:
                    raise self._shard_error(shard_id, in_words(cause)) from cause
                sleep(2.0 ** (failures - 1))

        def _try_to_prepare(self, shard_id: int) -> tuple[Exception | None, bool]:
            """What went wrong, if anything did, and whether it is worth another try.

            Called by one process at a time, see ``Presence.preparing``.
            """
            stream = self.streams[self.stream_per_shard[shard_id]]
            shard = self.shards[shard_id]
            try:
                super().prepare_shard(shard_id)
            except BaseException as error:
                _release_locks(error)
                if self._shard_states[shard_id] == _ShardState.REMOTE:
                    # As streaming-community leaves it, with what could not be unpacked.
                    self._shard_states[shard_id] = _ShardState.PREPARING
                self._give_up(shard_id)
                if not isinstance(error, Exception):
                    raise
                # What came and was found to be wrong may be right the next time. A download that
                # failed was tried again by streaming.
                return error, can_be_fetched(stream) and not is_of_download(error)
            if self._shard_states[shard_id] != _ShardState.LOCAL:
                return None, False  # another process has evicted it since
            damage = damage_of(shard, stream)
            if damage is None:
                return None, False
            # Stock code does not look: a cut-off file would be served as far as it goes.
            self._discard(shard_id, damage)
            return OSError(damage), True

        def _damage_inside(self, shard_id: int) -> str | None:
            """What ``validate_hash`` finds in a file that was there before this run."""
            # Stock code looks only into what it downloads itself. A run that was killed before it
            # did so leaves a file that passes for good.
            if shard_id not in self._found:
                return None
            if not self.presence.is_proven(shard_id):
                stream = self.streams[self.stream_per_shard[shard_id]]
                damage = wrong_hash_of(self.shards[shard_id], stream)
                if damage is not None:
                    return damage
                self.presence.prove(shard_id)
            self._found.discard(shard_id)
            return None

        def _discard(self, shard_id: int, damage: str) -> None:
            """Forget a local shard that is damaged, so that it is fetched again.

            Raises:
                ShardError: There is nowhere to fetch it from.
            """
            stream = self.streams[self.stream_per_shard[shard_id]]
            shard = self.shards[shard_id]
            if not can_be_fetched(stream):
                raise self._shard_error(shard_id, f"{damage}, and there is no remote copy")
            with FileLock(self._cache_filelock_path):
                if self._shard_states[shard_id] != _ShardState.LOCAL:
                    return  # another process was here first
                if damage_of(shard, stream) is None and self._damage_inside(shard_id) is None:
                    return
                # What was counted when it came, whatever is left of it now.
                self._forget(shard_id, shard.get_persistent_size(stream.safe_keep_zip))
                shard.evict()

        def _evict_shard(self, shard_id: int) -> None:
            # Stock code fails where the cache counts less than it gives back, which is so when a
            # process was killed that had fetched a shard and not yet counted it.
            self._forget(shard_id, self.shards[shard_id].evict())

        def _forget(self, shard_id: int, counted: int) -> None:
            """Let others fetch a shard that is not there any more, and have its room."""
            self._shard_access_times[shard_id] = NEVER
            self._shard_states[shard_id] = _ShardState.REMOTE
            self.cache_usage = max(0, self.cache_usage - counted)

        def _give_up(self, shard_id: int) -> None:
            """Let others try a shard that this process failed to prepare."""
            # Stock code leaves it "preparing", and every other process waits for it forever; and it
            # leaves a file whose hash is wrong, which passes for good later.
            if self._shard_states[shard_id] == _ShardState.PREPARING:
                if can_be_fetched(self.streams[self.stream_per_shard[shard_id]]):
                    evict_unfinished(self.shards[shard_id])
                self._shard_states[shard_id] = _ShardState.REMOTE

        def _shard_error(self, shard_id: int, cause: str) -> ShardError:
            stream = self.streams[self.stream_per_shard[shard_id]]
            return ShardError(
                f"Shard {self.shards[shard_id].file_pairs[0][0].basename} of "
                f"remote={stream.remote!r}, local={stream.local!r} is not available: {cause}"
            )

        def shards_of(self, sample_ids: NDArray[np.int64]) -> NDArray[np.int64]:
            """The shards that samples are in, ``[K]`` for ``[K]`` ids."""
            return np.searchsorted(self.spanner.shard_bounds, sample_ids, side="right") - 1

        # ------------------------------------------------------------------ spawned workers

        def __reduce_ex__(self, protocol: Any) -> Any:
            vars(self._shared_barrier).pop("lock", None)  # made anew where there is none
            reduced: Any = super().__reduce_ex__(protocol)
            make, arguments, state, *rest = reduced
            state = {name: v for name, v in state.items() if name not in _OF_ONE_PROCESS}
            state["_cache_filelock"] = None
            return (make, arguments, state, *rest)

    return named_after(cls, Repaired)


def _reserve(memory: BuiltinSharedMemory) -> None:
    """Have the system find room now: where there is none, writing would end the process."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(memory._fd, 0, memory.size)  # type: ignore[attr-defined]


def _release_locks(error: BaseException) -> None:
    """Release what stock code holds where it finds no room for a shard.

    Each of its calls makes a lock of its own, which only its frame knows for sure. While the error
    is being told, others would wait for the file.
    """
    for frame, _ in walk_tb(error.__traceback__):
        lock = frame.f_locals.get("lock")
        if isinstance(lock, BaseFileLock) and lock.is_locked:
            lock.release(force=True)


def named_after(cls: type, made: type) -> type[Any]:
    """Give a class the name and the documentation of the user's class that it was made for."""
    made.__name__, made.__qualname__ = cls.__name__, cls.__qualname__
    made.__module__, made.__doc__ = cls.__module__, cls.__doc__
    return made
