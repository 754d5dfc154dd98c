# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Turn the user's own dataset and loader into selective ones, in place."""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming import StreamingDataLoader, StreamingDataset
from streaming.base.shuffle import algos as SHUFFLES
from torch.utils.data import DataLoader

from composer_dataagent import collectives
from composer_dataagent.streaming.ahead import fetch_ahead
from composer_dataagent.streaming.attachment import Attachment, Ids, Shards, epoch_number, to_mask
from composer_dataagent.streaming.by_ranges import read_by_ranges, read_whole, tidy_up
from composer_dataagent.streaming.costs import Costs
from composer_dataagent.streaming.dataset import is_selective, names_in_the_way, selective
from composer_dataagent.streaming.folders import make_folder, remove_file, remove_folder
from composer_dataagent.streaming.index_check import check_index
from composer_dataagent.streaming.loader import (
    IdCollate,
    beside,
    check_loader,
    refuse_workers_that_know_nothing,
)
from composer_dataagent.streaming.map_style import attach_map_style, is_map_style
from composer_dataagent.streaming.metered import meter
from composer_dataagent.streaming.needs import Needs
from composer_dataagent.streaming.outside import read_batches
from composer_dataagent.streaming.planning import BATCHING_METHODS
from composer_dataagent.streaming.ranged import Ranges
from composer_dataagent.streaming.reading import speed_up
from composer_dataagent.streaming.rounds import batches_of
from composer_dataagent.streaming.shards import can_be_fetched
from composer_dataagent.streaming.store import SelectionRecord, SelectionStore
from composer_dataagent.streaming.tally import Egress, Tally

_FILES_FOR_ALL_ELSE = 256
_HELD_AT_ONCE = 16  # batches that are fetched before they are read, outside of epochs
FETCHES = ("shards", "samples")


class StreamingAttachment(Attachment):
    """The handle to an attached StreamingDataset; made by :func:`attach`.

    Attributes:
        dataset (StreamingDataset): The user's object, now selective.
        num_samples (int): Size ``N`` of the whole data set; sample ids are 0 to N - 1.
    """

    def __init__(self, dataset: Any, workers: int = 0) -> None:
        self.dataset = dataset
        self._workers = workers  # of each rank's loader
        self.num_samples = int(dataset.num_samples)
        self._store: SelectionStore = dataset.selection_store

    def has_remote(self) -> bool:
        """See :meth:`Attachment.has_remote`."""
        return any(map(can_be_fetched, self.dataset.streams))

    def egress(self) -> Egress:
        """See :meth:`Attachment.egress`."""
        return self.dataset.tally.total()

    def fetch_ahead(self) -> None:
        """See :meth:`Attachment.fetch_ahead`; where shards are read by ranges."""
        if self.dataset.ranges is not None:
            fetch_ahead(self.dataset, self._workers)

    def upcoming_epoch(self) -> int:
        """The streaming epoch that the next iteration runs, a pending resume included."""
        return self.dataset.upcoming_epoch()

    def fingerprint(self) -> str:
        """Number of samples and shards, and a digest of the shards' names and sizes."""
        digest = hashlib.sha256()
        for shard in self.dataset.shards:
            files = [(raw.basename, raw.bytes) for raw, _ in shard.file_pairs]
            digest.update(repr((shard.samples, files)).encode())
        return (
            f"{self.num_samples} samples in {len(self.dataset.shards)} shards with the index "
            f"digest {digest.hexdigest()[:12]}"
        )

    def has_standing_selection(self) -> bool:
        """Whether :func:`~composer_dataagent.streaming.select` restricts the dataset."""
        if self._store.has_rule():
            return True
        if not self._store.has_standing():
            return False
        _, record = self._store.open(self.upcoming_epoch())
        return record.size < self.num_samples

    def serve(self, ids: Ids | NDArray[np.bool_], epoch: int | None = None) -> SelectionRecord:
        """Serve exactly these samples in one epoch, and make ``len()`` say so.

        Every rank calls this with the same ids: they reach this rank's workers through a file of
        its own, so that ranks need not wait for each other.

        Args:
            ids (Ids | NDArray[np.bool_]): Sample ids in any order, or a mask ``[N]``.
            epoch (int | None): The streaming epoch. Default: the upcoming one.

        Returns:
            SelectionRecord: Epoch, size and digest.

        Raises:
            ValueError: No id, one twice, or one outside the data set.
            TypeError: The ids are not integers.
        """
        if self.dataset.ranges is not None:
            self.dataset.ranges.failures.clear()  # this process runs no epoch
        upcoming = self.upcoming_epoch()
        epoch = upcoming if epoch is None else epoch_number(epoch)
        record = self._store.publish(to_mask(ids, self.num_samples), epoch)
        # The epoch that is running may still be read, by late workers or for a checkpoint.
        self._store.keep_only(range(upcoming - 1, sys.maxsize))
        return record

    def serve_always(self, ids: Ids | NDArray[np.bool_]) -> SelectionRecord:
        """Serve exactly these samples from the upcoming epoch on. See :meth:`serve`."""
        upcoming = self.upcoming_epoch()
        mask = to_mask(ids, self.num_samples)
        if upcoming > 0:
            # A checkpoint in the middle of the running epoch names what it began with.
            self._store.keep(upcoming - 1)
        record = self._store.publish_standing(mask)
        self._store.keep_only(range(upcoming - 1, upcoming))
        return record

    def serve_by_rule(self, rule: Callable[[int], Ids | NDArray[np.bool_]]) -> None:
        """Have a function say what each epoch serves, from the upcoming one on.

        It is called in any process that needs an epoch's selection, also in workers (spawned ones
        get it pickled), and must give the same in all of them. ``len()`` is that of the upcoming
        epoch.

        Args:
            rule (Callable): ``(epoch) -> ids or mask``; epochs count from 0 and over resumptions.

        Raises:
            ValueError: What it gives for the upcoming epoch cannot be served.
            TypeError: Likewise.
        """
        upcoming = self.upcoming_epoch()
        mask_of = _MaskOf(rule, self.num_samples)
        mask_of(upcoming)  # what is wrong with it shows now
        if upcoming > 0:
            self._store.keep(upcoming - 1)
        self._store.keep_only(range(upcoming - 1, upcoming))
        self._store.follow(mask_of)

    def may_leave_out(self, size: int, loader: DataLoader) -> int:
        """See :meth:`Attachment.may_leave_out`."""
        del size
        if not loader.drop_last:
            return 0
        # Every worker of every rank may keep an incomplete batch back.
        workers = max(loader.num_workers, 1) * collectives.world_size()
        return workers * ((loader.batch_size or 1) - 1)

    def batches_left(self, loader: DataLoader, size: int, done: int = 0) -> int:
        """See :meth:`Attachment.batches_left`."""
        share = ceil(max(size - done, 0) / collectives.world_size())
        return batches_of(share, loader.batch_size or 1, loader.drop_last)

    def order_of(self, epoch: int) -> NDArray:
        """See :meth:`Attachment.order_of`."""
        return self.dataset.order_of(epoch)

    def go_on(self, loader: DataLoader, sizes: Sequence[int], served_before: int) -> None:
        """See :meth:`Attachment.go_on`."""
        super().go_on(loader, sizes, served_before)
        self.dataset.served_before = served_before

    def read(
        self, ids: NDArray[np.int64], loader: DataLoader, batch_size: int
    ) -> Iterator[tuple[NDArray[np.int64], Any]]:
        """See :meth:`Attachment.read`; in this process, and so one after the other."""
        at_once = _HELD_AT_ONCE * batch_size
        for start in range(0, len(ids), at_once):
            self.dataset.hold(ids[start : start + at_once])
            yield from read_batches(self.dataset, ids[start : start + at_once], loader, batch_size)

    def shards_of(self, ids: NDArray) -> NDArray[np.int64]:
        """See :meth:`Attachment.shards_of`."""
        return self.dataset.shards_of(ids)

    def shards(self) -> Shards:
        """See :meth:`Attachment.shards`."""
        raw = [sum(raw.bytes for raw, _ in shard.file_pairs) for shard in self.dataset.shards]
        samples = np.asarray(self.dataset.samples_per_shard, np.int64)
        size = np.maximum(raw, 1) / np.maximum(samples, 1)
        return Shards(self.dataset.stream_per_shard, size, samples)

    def raw_sample(self, sample_id: int) -> dict[str, Any]:
        """The stored columns of a sample, as streaming decodes them; downloads its shard if absent.

        What the user's class does in ``__getitem__`` or ``get_item`` is left out, so that no
        transform runs and no random state moves.

        Args:
            sample_id (int): 0 to N - 1.

        Raises:
            IndexError: No such sample.
        """
        return self.dataset.stored_columns(sample_id)

    def resume_here(self, sample_in_epoch: int) -> None:
        """Make the next iteration go on inside the epoch that was just left unfinished.

        For a second ``trainer.fit()`` after ``max_duration`` stopped the first one mid-epoch: a
        loader that is iterated again begins the next epoch, and never serves the rest of this one.
        With it, the next iteration serves what an uninterrupted one would have served, and
        :meth:`upcoming_epoch` and ``len()`` are those of the unfinished epoch. For arguments and
        errors see :meth:`Attachment.resume_here`.
        """
        self.dataset.resume_here(sample_in_epoch)

    def resume_at(self, epoch: int, sample_in_epoch: int) -> None:
        """See :meth:`Attachment.resume_at`; Composer gave the dataset its own state before.

        The caller's checkpoint has the selection too, and it may be the only one: sharded
        checkpoints restore what the state of the new run's dataset had, which was not attached yet.
        """
        del epoch, sample_in_epoch
        self.dataset.take_on_trust()


@dataclass(frozen=True)
class _MaskOf:
    """A user's rule, checked; can be pickled if the rule can."""

    rule: Callable[[int], Ids | NDArray[np.bool_]]
    num_samples: int

    def __call__(self, epoch: int) -> NDArray[np.bool_]:
        return to_mask(self.rule(epoch), self.num_samples)


def attach(
    dataset: object,
    loader: DataLoader | None = None,
    *,
    memory_map: bool = False,
    shuffle_seed: int = 0,
    fetch: str | None = None,
    costs: Costs | Mapping[str, Any] | None = None,
) -> Attachment:
    """Make a StreamingDataset, and the loader over it, or a loader over map-style data selective.

    The objects stay the user's own, whatever subclasses they are of. Nothing is selected yet: call
    :meth:`Attachment.serve` before each epoch. Idempotent; call it before the first iteration.

    Args:
        dataset (StreamingDataset | Dataset): The dataset.
        loader (DataLoader | None): A ``DataLoader`` or ``StreamingDataLoader`` over it. It then has
            ``sample_ids``, the int64 tensor ``[B]`` of the batch that it yielded last; the batch is
            the user's own. Default: ``None`` (ids are not needed, and the dataset is streaming).
        memory_map (bool): Read MDS shards through memory maps that stay open: the fastest way, for
            local files that nothing cuts short while they are in use (the system ends a process
            that reads beyond the end of a map). Default: ``False``.
        shuffle_seed (int): Seeds the order of map-style data that a ``RandomSampler`` without a
            generator shuffles. Default: ``0``.
        fetch (str | None): ``"shards"``: whole, as streaming does. ``"samples"``: of uncompressed
            MDS shards only what is selected, as far as that costs less by ``costs``; into a folder
            of its own beside the cache, which ``cache_limit`` includes. Shards that cannot be read
            by ranges are fetched whole, and the log says why. What is there is used either way.
            Default: as before, at first ``"shards"``.
        costs (Costs | Mapping[str, Any] | None): Of requests and bytes. Default: list prices of a
            large cloud, see :class:`Costs`.

    Returns:
        Attachment: The handle that selects.

    Raises:
        TypeError: The dataset is neither streaming nor map-style, or the loader no DataLoader.
        ValueError: The dataset repeats, chooses or weighs samples, or is set up in another way that
            a selection cannot be combined with, or the loader has another batch size, or a sampler
            with a selection of its own; the message names the argument.
        RuntimeError: The loader's workers are already running.

    Example:
        >>> from streaming import StreamingDataLoader, StreamingDataset
        >>> from composer_dataagent import attach
        >>> dataset = StreamingDataset(local="data/letters", batch_size=4)
        >>> loader = StreamingDataLoader(dataset, batch_size=4)
        >>> attachment = attach(dataset, loader)
        >>> attachment.serve([2, 3, 5, 7, 11]).size
        5
        >>> [(loader.sample_ids.tolist(), batch["x"]) for batch in loader]
        [([2, 3, 5, 7], ['c', 'd', 'f', 'h']), ([11], ['l'])]
    """
    if fetch not in (None, *FETCHES):
        raise ValueError(f"fetch={fetch!r} is not accepted; it must be one of {list(FETCHES)}")
    costs = Costs.of(costs)
    if is_map_style(dataset):
        if fetch == "samples":
            raise ValueError(
                f"fetch={fetch!r} is for MDS shards, which a {type(dataset).__name__} does not "
                "have: remove it"
            )
        if memory_map:
            raise ValueError(
                f"memory_map=True is for MDS shards, which a {type(dataset).__name__} does not "
                "have: remove it"
            )
        return attach_map_style(dataset, loader, shuffle_seed)
    if not isinstance(dataset, StreamingDataset):
        raise TypeError(
            f"The training dataset is a {type(dataset).__name__}, but only a streaming."
            "StreamingDataset (any subclass) or a map-style dataset (__getitem__ and __len__) can "
            "serve a selection: convert the data to MDS shards with streaming.MDSWriter and read "
            "them with StreamingDataset"
        )
    if loader is not None:
        _check_loader(dataset, loader)
    if memory_map and dataset.cache_limit is not None:
        raise ValueError(
            "memory_map=True cannot be combined with cache_limit: an evicted shard would keep its "
            "space as long as it is mapped. Remove one of the two"
        )
    if memory_map and fetch == "samples":
        raise ValueError(
            "memory_map=True cannot be combined with fetch='samples': it is for shards that are "
            "whole. Remove one of the two"
        )
    if memory_map:
        _check_open_files(len(dataset.shards))
    is_new = not is_selective(dataset)
    if is_new:
        _check_dataset(dataset)
    if is_new or _changes(dataset, fetch, costs):
        refuse_workers_that_know_nothing(dataset)
    if is_new:
        _make_selective(dataset)
    if is_new or memory_map:
        speed_up(dataset, memory_map)
    if fetch == "samples":
        read_by_ranges(dataset, costs)
    elif (fetch == "shards" or is_new) and not memory_map:
        read_whole(dataset)
    if loader is not None and not isinstance(loader.collate_fn, IdCollate):
        loader.collate_fn = IdCollate(loader.collate_fn, dataset)
        loader.__class__ = beside(type(loader))
        dataset.recent_ids = deque(maxlen=loader.batch_size)  # type: ignore[attr-defined]
    return StreamingAttachment(dataset, 0 if loader is None else loader.num_workers)


def _changes(dataset: Any, fetch: str | None, costs: Costs) -> bool:
    """Whether a dataset that is attached is to fetch in another way."""
    ranges: Ranges | None = dataset.ranges
    now = None if ranges is None or ranges.is_whole else ranges.costs
    return fetch is not None and now != (costs if fetch == "samples" else None)


def _make_selective(dataset: StreamingDataset) -> None:
    # Outside the dataset's own folders, where streaming takes every file for a shard; and one per
    # process, since only the leading rank's workers read it.
    folder = make_folder()
    store = SelectionStore(folder, int(dataset.num_samples))
    weakref.finalize(store, remove_folder, folder, os.getpid())  # copies of the dataset share it
    cls: Any = selective(type(dataset))
    dataset.selection_store = store  # type: ignore[attr-defined]
    dataset.recent_ids = deque(maxlen=0)  # type: ignore[attr-defined]
    dataset.process_id = os.getpid()  # type: ignore[attr-defined]
    cls.watch(dataset)
    path = dataset.presence.path  # type: ignore[attr-defined]
    shards = dataset.samples_per_shard
    dataset.needs = Needs(f"{path}.needs", shards)  # type: ignore[attr-defined]
    dataset.tally = Tally(path, len(shards))  # type: ignore[attr-defined]
    dataset.ranges = None  # type: ignore[attr-defined]
    dataset.ahead = None  # type: ignore[attr-defined]
    if dataset._unique_rank_world.is_local_leader:
        for name in (dataset.needs.path, *dataset.tally.paths):  # type: ignore[attr-defined]
            weakref.finalize(store, remove_file, name, os.getpid())
        tidy_up(dataset)
    meter(dataset)
    # Last: threads of an epoch that runs already are in its methods at once, and need all of this.
    dataset.__class__ = cls


def _check_dataset(dataset: StreamingDataset) -> None:
    check_index(dataset)
    own = next(cls for cls in type(dataset).__mro__ if "__iter__" in vars(cls))
    if own is not StreamingDataset:
        raise ValueError(
            f"{own.__name__} overrides StreamingDataset.__iter__, so which ids it yields is not "
            "known: do what it does in __getitem__ or in the DataLoader's collate_fn instead, "
            "keeping the order of the samples"
        )
    if names := names_in_the_way(dataset):
        raise ValueError(
            f"{type(dataset).__name__} has attributes {names}, names that a selection needs for "
            "itself: rename them"
        )
    for stream_id, stream in enumerate(dataset.streams):
        size = int(dataset.samples_per_stream[stream_id])
        if stream.choose != size:
            raise ValueError(
                f"Stream {stream_id} has {size} samples of which {stream.choose} are drawn per "
                "epoch: a selection decides that itself, so remove proportion, repeat and choose "
                "from the streams, and epoch_size from the dataset"
            )
    if dataset.batching_method not in BATCHING_METHODS:
        raise ValueError(
            f"batching_method={dataset.batching_method!r} cannot be combined with a selection; use "
            f"one of {list(BATCHING_METHODS)}"
        )
    if dataset.shuffle and dataset.shuffle_algo not in SHUFFLES:
        raise ValueError(
            f"shuffle_algo={dataset.shuffle_algo!r} is not known to streaming; use one of "
            f"{sorted(SHUFFLES)}"
        )
    if dataset.replication not in (None, 1):
        raise ValueError(
            f"replication={dataset.replication} cannot be combined with a selection yet; remove it"
        )
    if not isinstance(dataset.batch_size, int):
        raise ValueError(
            "The StreamingDataset has no batch_size: give it the same as the DataLoader's, which "
            "streaming needs for a reproducible order"
        )


def _check_open_files(count: int) -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and count + _FILES_FOR_ALL_ELSE > limit:
        raise ValueError(
            f"memory_map=True keeps a file open for each of {count} shards, but a process may have "
            f"{limit}: raise that (ulimit -n), or leave memory_map out"
        )


def _check_loader(dataset: StreamingDataset, loader: DataLoader) -> None:
    attached = isinstance(getattr(loader, "collate_fn", None), IdCollate)
    check_loader(dataset, loader, attached, (DataLoader, StreamingDataLoader))
    if loader.batch_size != dataset.batch_size:
        # Streaming deals whole batches of its own size to the workers, and each worker's loader
        # cuts them anew: more batches than len() says, and Composer stops at len().
        raise ValueError(
            f"The DataLoader has batch_size={loader.batch_size}, but its StreamingDataset has "
            f"batch_size={dataset.batch_size}: give both the same, the number of samples per batch "
            "on each rank"
        )
