# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A StreamingDataset that serves exactly the selected ids: a subclass made for the user's class."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming import StreamingDataset
from streaming.base.constant import RESUME
from streaming.base.dataset import _Iterator, _ShardState
from streaming.base.shared import SharedMemory
from streaming.base.shared.prefix import _get_path

from composer_dataagent.streaming.errors import SelectionCorruptError, ShortEpochError
from composer_dataagent.streaming.shard_index import shuffle_units
from composer_dataagent.streaming.store import SelectionStore


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
        ids_beside_samples: bool

        def resample_streams(
            self, epoch: int, stream_id: int | None = None
        ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            del stream_id  # batching methods that sample per stream are refused by attach
            ids, record = self.selection_store.read(epoch)
            resumed = self.pending_resume() or {}
            wanted = (resumed.get("selection") or {}).get("digest")
            inside = resumed.get("epoch") == epoch and resumed.get("sample_in_epoch", 0) > 0
            if inside and wanted not in (None, record.digest):
                raise SelectionCorruptError(
                    f"The checkpoint was written in the middle of epoch {epoch} with another "
                    f"selection ({resumed['selection']['size']} samples, digest {wanted[:12]}) "
                    f"than the one that is published now ({record.size} samples, digest "
                    f"{record.digest[:12]}): select the same samples before resuming"
                )
            # batching/random.py reads this right after calling us, in this process.
            self.epoch_size = len(ids)
            return shuffle_units(ids, self.samples_per_shard), ids

        def pending_resume(self) -> dict[str, Any] | None:
            """What load_state_dict left for the next epoch that runs, if anything."""
            try:
                shm = SharedMemory(
                    name=_get_path(self._shm_prefix_int, RESUME), create=False, auto_cleanup=False
                )
            except FileNotFoundError:
                return None
            text = bytes(shm.buf).split(b"\0", 1)[0]
            shm.shm.close()
            return json.loads(text)

        def upcoming_epoch(self) -> int:
            """The streaming epoch that the next iteration runs, pending resume included."""
            epoch, _ = self._resume(self._parallel_rank_world, self.next_epoch)
            return epoch

        def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
            state = super().state_dict(num_samples, from_beginning)
            if from_beginning and num_samples == 0:
                # Between two epochs. Stock code names the one that ended, which a resumed run
                # would then run again.
                state["epoch"] = self.upcoming_epoch()
            _, record = self.selection_store.read(state["epoch"])
            return {**state, "selection": {"size": record.size, "digest": record.digest}}

        def _get_work(self, epoch: int, sample_in_epoch: int) -> NDArray[np.int64]:
            work = super()._get_work(epoch, sample_in_epoch)
            self._planned = (epoch, int((work != -1).sum()))
            return work

        def _each_sample_id(self, it: _Iterator) -> Iterator[int]:
            for sample_id in super()._each_sample_id(it):
                # __iter__ maps __getitem__ over this one id at a time.
                self._serving = int(sample_id)
                yield sample_id

        def __iter__(self) -> Iterator[Any]:
            self._failure: BaseException | None = None
            self._turn = turn = object()
            served = 0
            for sample in super().__iter__():
                served += 1
                yield (self._serving, sample) if self.ids_beside_samples else sample
            if self._turn is not turn:
                return  # a newer iteration took over, which ends this one early by design
            epoch, planned = self._planned
            if served != planned:
                raise ShortEpochError(
                    f"Epoch {epoch} ended after {served} of the {planned} samples that this "
                    f"process had to serve. Cause: {self._failure!r}"
                ) from self._failure

        def on_exception(self, future: Future) -> None:
            # Stock code raises here, in a thread where nobody listens, and the epoch ends short.
            # Keep the cause for __iter__ before waking it up.
            failure = future.exception()
            if failure is not None:
                self._failure = failure
                self._event.set()

        def prepare_shard(self, shard_id: int, blocking: bool = True) -> None:
            try:
                super().prepare_shard(shard_id, blocking)
            except BaseException:
                # Stock code leaves the shard "preparing", and every other process waits for it
                # forever.
                if self._shard_states[shard_id] == _ShardState.PREPARING:
                    self._shard_states[shard_id] = _ShardState.REMOTE
                raise

        def __reduce_ex__(self, protocol: Any) -> Any:
            # Spawned workers cannot import this class by name: send the user's and make it again.
            _, _, *state = super().__reduce_ex__(protocol)
            return (_new, (cls,), *state)

    Selective.__name__, Selective.__qualname__ = cls.__name__, cls.__qualname__
    Selective.__module__, Selective.__doc__ = cls.__module__, cls.__doc__
    return Selective


def is_selective(dataset: StreamingDataset) -> bool:
    """Whether the dataset was made selective."""
    return hasattr(type(dataset), "upcoming_epoch")


def _new(cls: type[StreamingDataset]) -> StreamingDataset:
    selective_cls: Callable[..., type[StreamingDataset]] = selective
    return object.__new__(selective_cls(cls))
