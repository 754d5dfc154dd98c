# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A StreamingDataset that serves exactly the selected ids: a subclass made for the user's class."""

from __future__ import annotations

import functools
import operator
from collections import deque
from collections.abc import Callable, Iterator
from hashlib import sha256
from math import ceil
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from time import sleep, time_ns
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from streaming import StreamingDataset
from streaming.base.constant import EPOCH_DATA, EPOCH_SHAPE, TICK
from streaming.base.dataset import NEVER, _Iterator, _ShardState
from streaming.base.shared import SharedMemory
from streaming.base.shared.prefix import _get_path
from streaming.base.world import World

from composer_dataagent.streaming.errors import (
    NoRoomError,
    NoRoomYetError,
    SelectionCorruptError,
    SelectionMissingError,
    ShardError,
)
from composer_dataagent.streaming.needs import PARTS, Needs
from composer_dataagent.streaming.planning import generate_work, serving_order
from composer_dataagent.streaming.ranged import BLOCK, Ranges, has_served, lacks
from composer_dataagent.streaming.repairs import named_after, repaired
from composer_dataagent.streaming.shard_index import ids_dtype
from composer_dataagent.streaming.store import SelectionRecord, SelectionStore
from composer_dataagent.streaming.tally import Tally

# Beside streaming's names for the parts of an epoch's plan in shared memory.
EPOCH_SELECTION = "epoch_selection"
# The share of the cache that may be filled ahead with samples that are not served yet.
_AHEAD = 0.35
# Shards of which it is asked whether some samples can go, before a whole one does.
_LOOKED_AT = 32
# Nanoseconds that a shard stays after it came or was read, if the epoch needs it: or processes that
# have little room for each would put out one another's before anybody has read them.
_AT_LEAST = 100_000_000
# In a state, in place of a selection that is still to be made.
_NOTHING = {"size": -1, "digest": ""}


@functools.cache
def selective(cls: type[StreamingDataset]) -> type[StreamingDataset]:
    """The selective subclass of a user's dataset class.

    Selection is injected where the epoch's work is generated: resumption, workers and eviction are
    streaming's own and happen downstream of it. The subclass adds no slots and has a single
    line of bases, which is what Python asks for before an object's ``__class__`` may be set to it.

    Args:
        cls (type[StreamingDataset]): Any subclass, ``__getitem__`` overridden or not.

    Returns:
        type[StreamingDataset]: One class per ``cls``, of the same name.
    """
    base = repaired(cls)

    class Selective(base):
        # Set by streaming.attach.
        selection_store: SelectionStore
        recent_ids: deque[np.int64]  # of the samples that this process read last; see IdCollate
        tally: Tally
        needs: Needs
        ranges: Ranges | None = None  # None: no shard is there in part
        ahead: tuple[BaseProcess, Event] | None  # see fetch_ahead
        served_before = 0  # samples of the trainer's epoch that earlier rounds of it served
        _record: SelectionRecord  # of the epoch that runs
        _dataagent_selective = True

        _plan_parts = (EPOCH_SELECTION, EPOCH_SHAPE, EPOCH_DATA)

        # ------------------------------------------------------------------ what is served

        def _generate_work(self, world: World, epoch: int, sample_in_epoch: int) -> NDArray:
            ids, _ = self.selection_store.read(epoch)
            plan = generate_work(self, ids, world, epoch, sample_in_epoch)
            self.publish_needs(self.needs, plan[world.node])
            self.needs.open()
            return plan

        def publish_needs(self, needs: Needs, plan: NDArray) -> None:
            """Say what an epoch needs on this node."""
            by_sample = self.ranges is not None
            if not by_sample and self.cache_limit is None:
                plan = plan[:, :, :0]  # nobody asks: nothing is put out, and shards come whole
            limit = np.inf if self.cache_limit is None else _AHEAD * float(self.cache_limit)
            raw = np.array([shard.get_raw_size() for shard in self.shards], np.float64)
            sizes = raw / np.maximum(self.samples_per_shard, 1) + BLOCK
            needs.publish(plan, by_sample, sizes, limit)

        def order_of(self, epoch: int) -> NDArray:
            """See :meth:`Attachment.order_of`."""
            self.upcoming_epoch()  # streaming finds out late how it shuffles
            ids = np.arange(self.num_samples, dtype=ids_dtype(self.num_samples))
            return serving_order(self, ids, self._parallel_rank_world, epoch)

        def _check_epoch(self, epoch: int, sample_in_epoch: int) -> None:
            self.needs.begin_epoch()
            self.tally.held()  # not when it may be gone
            if self.ranges is not None:
                unique = self._unique_worker_world
                self.ranges.begin_epoch(unique.worker_of_node, unique.workers_per_node)
            # Every process for itself: each has a selection, and all are to be the same.
            _, self._record = self.selection_store.open(epoch)
            if sample_in_epoch > 0:
                self._check_resumed(epoch, self._record)

        def _share_work(self, sample_ids: NDArray) -> tuple[SharedMemory | None, ...]:
            digest = np.frombuffer(bytes.fromhex(self._record.digest), np.int64)
            of_what = self._make_shared(EPOCH_SELECTION, digest)
            try:
                return of_what, *super()._share_work(sample_ids)
            except BaseException:
                of_what.cleanup()
                raise

        def _attach_work(self) -> tuple[NDArray[np.int64], SharedMemory, SharedMemory | None]:
            # Before the plan itself: where there is none, this is not there either.
            path = _get_path(self._shm_prefix_int, EPOCH_SELECTION)
            memory = SharedMemory(name=path, create=False, auto_cleanup=False).shm
            digest = bytes(memory.buf or b"")[: sha256().digest_size].hex()
            memory.close()
            if digest != self._record.digest:
                raise SelectionCorruptError(
                    "The leading rank of this node serves other samples in epoch "
                    f"{self._record.epoch} than those that this rank selected "
                    f"({self._record.size}, digest {self._record.digest[:12]}; the leader's is "
                    f"{digest[:12]}): select the same samples on every rank, between two epochs"
                )
            self.needs.open()
            return super()._attach_work()

        def _each_sample_id(self, it: _Iterator) -> Iterator[int]:
            remember = self.recent_ids.append
            for sample_id in super()._each_sample_id(it):
                # __iter__ maps __getitem__ over this one id at a time.
                remember(sample_id)
                yield sample_id
            if self.ranges is not None:
                self.ranges.serve(PARTS)

        def __len__(self) -> int:
            upcoming = self.upcoming_epoch()
            for epoch in (upcoming, upcoming - 1):  # the running one, until the next is selected
                size = self.selection_store.size_of(epoch)
                if size is not None:
                    return ceil(size / self._parallel_rank_world.num_ranks)
            return super().__len__()

        # ------------------------------------------------------------------ what is fetched

        def stored_columns(self, sample_id: int) -> dict[str, Any]:
            """The stored columns of a sample, whatever the user's class makes of them."""
            self.validate_shard_of(sample_id)
            return StreamingDataset.get_item(self, sample_id)

        def hold(self, sample_ids: NDArray[np.int64]) -> None:
            """Fetch samples that are about to be read, shard by shard instead of one by one."""
            if self.ranges is None:
                return
            shards = self.shards_of(sample_ids)
            for shard_id in np.unique(shards).tolist():
                inside = sample_ids[shards == shard_id] - self.sample_offset_per_shard[shard_id]
                self.ranges.want(shard_id, inside.tolist())
                self.prepare_shard(shard_id)
            self.ranges.want_no_more()

        def is_complete(self, shard_id: int) -> bool:
            """Whether a shard is there with all that is needed of it now."""
            is_there = self._shard_states[shard_id] == _ShardState.LOCAL
            return bool(is_there) and not lacks(self.shards[shard_id])

        def prepare_shard(self, shard_id: int, blocking: bool = True) -> None:
            shard = self.shards[shard_id]
            states = self._shard_states
            if states[shard_id] == _ShardState.LOCAL and lacks(shard):
                with FileLock(self._cache_filelock_path):
                    # Another process may have been here first.
                    if states[shard_id] == _ShardState.LOCAL and lacks(shard):
                        states[shard_id] = _ShardState.REMOTE
            while True:
                try:
                    super().prepare_shard(shard_id, blocking)
                    # Another process that was waited for may have found no room for it.
                    if not blocking or states[shard_id] == _ShardState.LOCAL:
                        return
                except ShardError as error:
                    if not isinstance(error.__cause__, NoRoomYetError):
                        raise
                sleep(TICK)

        def _try_to_prepare(self, shard_id: int) -> tuple[Exception | None, bool]:
            try:
                cause, is_worth_it = super()._try_to_prepare(shard_id)
            finally:
                # Not before the cache counts what has come.
                self.tally.reserved()[shard_id] = 0
            # For room is waited in prepare_shard, as long as it takes.
            return cause, is_worth_it and not isinstance(cause, NoRoomYetError)

        def _evict_coldest_shard(self) -> None:
            # Stock code evicts what was used longest ago, though it be needed next, and keeps what
            # is not needed any more.
            states, held = self._shard_states.numpy(), self.tally.held()
            there = (states == _ShardState.LOCAL) | (held > 0) & (states == _ShardState.REMOTE)
            candidates = np.flatnonzero(there)
            if not len(candidates):
                under_way = np.flatnonzero(states == _ShardState.PREPARING).tolist()
                if sum(map(self.presence.is_prepared, under_way)) > 1:  # not this one alone
                    raise NoRoomYetError("other shards are on their way")
                return super()._evict_coldest_shard()  # raises
            done = 1 if self.ranges is None else self.ranges.done()
            is_needed = self.needs.last()[candidates] >= max(done, 1)
            if self.ranges is not None and self.ranges.is_ahead and is_needed.all():
                raise NoRoomError("the cache is full of what the epoch needs")
            last_used = self._shard_access_times.numpy()[candidates]
            candidates = candidates[np.lexsort((last_used, is_needed))]
            coldest = int(candidates[0])
            if is_needed.all():
                for shard_id in candidates[:_LOOKED_AT].tolist():
                    if not has_served(self.shards[shard_id]):
                        continue
                    freed = self.shards[shard_id].trim()
                    self.cache_usage -= freed
                    if not self.shards[shard_id].is_partial():  # it was damaged
                        self._forget(shard_id, 0)
                    if freed > 0:  # or it would be asked for ever
                        return None
                in_use = time_ns() - _AT_LEAST < self._shard_access_times[coldest] < NEVER
                if in_use and self.ranges is not None:
                    raise NoRoomYetError("all shards came or were read at this moment")
            self._evict_shard(coldest)

        # ------------------------------------------------------------------ stopping and going on

        def _check_resumed(self, epoch: int, record: SelectionRecord) -> None:
            """Refuse to finish an epoch with another selection than it began with."""
            saved = (self.loaded_state() or {}).get("selection", _NOTHING)
            if saved is None:
                return  # see take_on_trust
            if saved == _NOTHING:
                if record.size == self.selection_store.num_samples:
                    return  # as stock code counts, which wrote it perhaps
                raise SelectionCorruptError(
                    f"The checkpoint was written in the middle of epoch {epoch} without a "
                    f"selection, but one of {record.size} samples is published now: select it from "
                    "the next epoch on, or resume from a checkpoint that was written with it"
                )
            if saved["digest"] != record.digest:
                raise SelectionCorruptError(
                    f"The checkpoint was written in the middle of epoch {epoch} with another "
                    f"selection ({saved['size']} samples, digest {saved['digest'][:12]}) than the "
                    f"one that is published now ({record.size} samples, digest "
                    f"{record.digest[:12]}): select the same samples before resuming"
                )

        def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
            if from_beginning:  # of the trainer's epoch
                num_samples -= min(self.served_before, num_samples)
            state = super().state_dict(num_samples, from_beginning)
            try:
                _, record = self.selection_store.open(state["epoch"])
            except SelectionMissingError:
                if state["sample_in_epoch"] > 0:
                    raise
                # Nothing is served of it yet; it can still be selected. The key is there all the
                # same: sharded checkpoints load only what the new run's own state has.
                return {**state, "selection": _NOTHING}
            return {**state, "selection": _brief(record)}

        def take_on_trust(self) -> None:
            """Resume with whatever is selected next, if the loaded state names no selection."""
            state = self.loaded_state()
            if state is not None and "selection" not in state:
                self.load_state_dict({**state, "selection": None})

        def resume_here(self, sample_in_epoch: int) -> None:
            """See :meth:`Attachment.resume_here`."""
            # All ranks of a node share what is read and written below, and come here at their own
            # time. So whoever comes second must find the same epoch: it reads the counter before
            # the state, and writes them the other way round. (Zero samples would name the epoch
            # after the running one.)
            sample_in_epoch = operator.index(sample_in_epoch)
            state = super().state_dict(max(sample_in_epoch, 1), True)
            epoch = state["epoch"]
            if epoch < 0:
                raise RuntimeError("No epoch has begun, so there is none to go on with")
            _, record = self.selection_store.open(epoch)
            ranks = self._parallel_rank_world.num_ranks
            # As streaming pads it. Further on, its leader would fail while the others wait for it.
            end = record.size + -record.size % ranks
            if not 0 <= sample_in_epoch <= end:
                raise ValueError(
                    f"sample_in_epoch={sample_in_epoch} is not in epoch {epoch}, which serves "
                    f"{record.size} samples: count those that all ranks together have taken"
                )
            self.load_state_dict(
                {**state, "sample_in_epoch": sample_in_epoch, "selection": _brief(record)}
            )

        # ------------------------------------------------------------------ spawned workers

        def __reduce_ex__(self, protocol: Any) -> Any:
            # They cannot import this class by name: send the user's and make it again.
            _, _, *state = super().__reduce_ex__(protocol)
            return (_new, (cls,), {**state[0], "ahead": None}, *state[1:])

    return named_after(cls, Selective)


def is_selective(dataset: StreamingDataset) -> bool:
    """Whether the dataset was made selective."""
    return hasattr(type(dataset), "_dataagent_selective")


def names_in_the_way(dataset: StreamingDataset) -> list[str]:
    """Attributes of a user's dataset, or methods of its class, that the subclass would replace."""
    bases = type(dataset).__mro__
    theirs = {*vars(dataset)}.union(*map(vars, bases[: bases.index(StreamingDataset)]))
    added: set[str] = set()
    for cls in selective(type(dataset)).__mro__[:2]:
        added |= {*vars(cls), *vars(cls).get("__annotations__", ())}
    return sorted(theirs & added - {*dir(StreamingDataset)})


def _brief(record: SelectionRecord) -> dict[str, Any]:
    return {"size": record.size, "digest": record.digest}


def _new(cls: type[StreamingDataset]) -> StreamingDataset:
    selective_cls: Callable[..., type[StreamingDataset]] = selective
    return object.__new__(selective_cls(cls))
