# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Turn the user's own dataset and loader into selective ones, in place."""

from __future__ import annotations

import os
import sys
import weakref
from collections import deque
from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from streaming import StreamingDataLoader, StreamingDataset
from streaming.base.shuffle import algos as SHUFFLES
from torch.utils.data import DataLoader

from composer_dataagent.streaming.dataset import is_selective, selective
from composer_dataagent.streaming.folders import make_folder, remove_folder
from composer_dataagent.streaming.loader import IdCollate, beside
from composer_dataagent.streaming.store import SelectionRecord, SelectionStore

Ids = Sequence[int] | NDArray[np.int64] | torch.Tensor


class Attachment:
    """The handle to an attached dataset; made by :func:`attach`.

    Attributes:
        dataset (StreamingDataset): The user's object, now selective.
        num_samples (int): Size ``N`` of the whole data set; sample ids are 0 to N - 1.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.num_samples = int(dataset.num_samples)
        self._store: SelectionStore = dataset.selection_store

    def upcoming_epoch(self) -> int:
        """The streaming epoch that the next iteration runs, a pending resume included."""
        return self.dataset.upcoming_epoch()

    def has_standing_selection(self) -> bool:
        """Whether :func:`~composer_dataagent.streaming.select` restricts the dataset."""
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
            ValueError: No id, one twice, one outside the data set, or fewer than canonical nodes.
            TypeError: The ids are not integers.
        """
        upcoming = self.upcoming_epoch()
        epoch = upcoming if epoch is None else epoch
        mask = to_mask(ids, self.num_samples)
        record = self._publish(mask, epoch)
        if epoch == upcoming:
            self._set_length(record.size)
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
        record = self._publish(mask, None)
        self._store.keep_only(range(upcoming - 1, upcoming))
        self._set_length(record.size)
        return record

    def raw_sample(self, sample_id: int) -> dict[str, Any]:
        """The stored columns of a sample, as streaming decodes them; downloads its shard if absent.

        What the user's class does in ``__getitem__`` or ``get_item`` is left out, so that no
        transform runs and no random state moves.

        Args:
            sample_id (int): 0 to N - 1.

        Raises:
            IndexError: No such sample.
        """
        return StreamingDataset.get_item(self.dataset, sample_id)

    def resume_here(self, sample_in_epoch: int) -> None:
        """Make the next iteration go on inside the epoch that was just left unfinished.

        For a second ``trainer.fit()`` after ``max_duration`` stopped the first one mid-epoch: a
        loader that is iterated again begins the next epoch, and never serves the rest of this one.
        With it, the next iteration serves what an uninterrupted one would have served, and
        :meth:`upcoming_epoch` and ``len()`` are those of the unfinished epoch.

        Every rank calls this with the same number, and before any of them iterates.

        Args:
            sample_in_epoch (int): How many samples of the epoch are done, over all ranks; counted
                from its very beginning, also if it was resumed before.

        Raises:
            RuntimeError: No epoch has begun.
            ValueError: Negative, or more samples than the epoch has.
        """
        self._set_length(self.dataset.resume_here(sample_in_epoch).size)

    def _publish(self, mask: NDArray[np.bool_], epoch: int | None) -> SelectionRecord:
        size, nodes = int(mask.sum()), self.dataset.num_canonical_nodes
        if size < nodes:
            raise ValueError(
                f"{size} selected samples cannot be dealt to num_canonical_nodes={nodes}: select "
                "at least that many, or give the StreamingDataset a smaller num_canonical_nodes"
            )
        return self._store.publish(mask, epoch)

    def _set_length(self, size: int) -> None:
        self.dataset.epoch_size = size
        self.dataset.length = ceil(size / self.dataset._parallel_rank_world.num_ranks)


def attach(dataset: object, loader: DataLoader | None = None) -> Attachment:
    """Make a StreamingDataset, and the loader over it, selective.

    The objects stay the user's own, whatever subclasses they are of. Nothing is selected yet: call
    :meth:`Attachment.serve` before each epoch. Idempotent; call it before the first iteration.

    Args:
        dataset (StreamingDataset): The dataset.
        loader (DataLoader | None): A ``DataLoader`` or ``StreamingDataLoader`` over it. It then has
            ``sample_ids``, the int64 tensor ``[B]`` of the batch that it yielded last; the batch is
            the user's own. Default: ``None`` (ids are not needed).

    Returns:
        Attachment: The handle that selects.

    Raises:
        TypeError: Not a StreamingDataset or not a DataLoader.
        ValueError: The dataset repeats, chooses or weighs samples, or is set up in another way that
            a selection cannot be combined with, or the loader has another batch size; the message
            names the argument.
        RuntimeError: The loader's workers are already running.
    """
    if not isinstance(dataset, StreamingDataset):
        raise TypeError(
            f"The training dataset is a {type(dataset).__name__}, but only a streaming."
            "StreamingDataset (any subclass) can serve a selection: convert the data to MDS shards "
            "with streaming.MDSWriter and read them with StreamingDataset"
        )
    if loader is not None:
        _check_loader(dataset, loader)
    if not is_selective(dataset):
        _check_dataset(dataset)
        _make_selective(dataset)
    if loader is not None and not isinstance(loader.collate_fn, IdCollate):
        loader.collate_fn = IdCollate(loader.collate_fn, dataset)
        loader.__class__ = beside(type(loader))
        dataset.recent_ids = deque(maxlen=loader.batch_size)  # type: ignore[attr-defined]
    return Attachment(dataset)


def to_mask(ids: Ids | NDArray[np.bool_], num_samples: int) -> NDArray[np.bool_]:
    """Check sample ids (or a mask) and give them as a mask ``[N]``.

    Raises:
        ValueError: No id, one twice, one outside the data set, or a mask of another length.
        TypeError: Neither integers nor booleans.
    """
    array = np.asarray(ids.cpu() if isinstance(ids, torch.Tensor) else ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iub"):
        raise TypeError(
            "sample ids must be a one-dimensional sequence of integers, or a boolean mask, but are "
            f"an array of shape {array.shape} and dtype {array.dtype}"
        )
    if array.dtype == bool:
        if len(array) != num_samples:
            raise ValueError(
                f"the mask has {len(array)} entries, but the data set has {num_samples} samples"
            )
        mask = array.copy()
    else:
        outside = (array < 0) | (array >= num_samples)
        if outside.any():
            raise ValueError(
                f"sample id {array[outside.argmax()]} is outside the data set, whose ids are 0 to "
                f"{num_samples - 1}"
            )
        mask = np.zeros(num_samples, bool)
        mask[array.astype(np.int64)] = True
        if mask.sum() != len(array):
            values, counts = np.unique(array, return_counts=True)
            raise ValueError(
                f"sample id {values[counts.argmax()]} is given {counts.max()} times; an epoch "
                "serves a sample at most once"
            )
    if not mask.any():
        raise ValueError("no sample is selected; an epoch needs at least one")
    return mask


def _make_selective(dataset: StreamingDataset) -> None:
    # Outside the dataset's own folders, where streaming takes every file for a shard; and one per
    # process, since only the leading rank's workers read it.
    folder = make_folder()
    weakref.finalize(dataset, remove_folder, folder, os.getpid())
    dataset.__class__ = selective(type(dataset))
    dataset.selection_store = SelectionStore(folder, int(dataset.num_samples))  # type: ignore[attr-defined]
    dataset.recent_ids = deque(maxlen=0)  # type: ignore[attr-defined]
    dataset.process_id = os.getpid()  # type: ignore[attr-defined]


def _check_dataset(dataset: StreamingDataset) -> None:
    own = next(cls for cls in type(dataset).__mro__ if "__iter__" in vars(cls))
    if own is not StreamingDataset:
        raise ValueError(
            f"{own.__name__} overrides StreamingDataset.__iter__, so which ids it yields is not "
            "known: do what it does in __getitem__ or in the DataLoader's collate_fn instead, "
            "keeping the order of the samples"
        )
    for stream_id, stream in enumerate(dataset.streams):
        size = int(dataset.samples_per_stream[stream_id])
        if stream.choose != size:
            raise ValueError(
                f"Stream {stream_id} has {size} samples of which {stream.choose} are drawn per "
                "epoch: a selection decides that itself, so remove proportion, repeat and choose "
                "from the streams, and epoch_size from the dataset"
            )
    if dataset.batching_method != "random":
        raise ValueError(
            f"batching_method={dataset.batching_method!r} cannot be combined with a selection yet; "
            "use batching_method='random'"
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


def _check_loader(dataset: StreamingDataset, loader: DataLoader) -> None:
    if not isinstance(loader, DataLoader):
        raise TypeError(f"loader must be a torch DataLoader, but is a {type(loader).__name__}")
    if loader.dataset is not dataset:
        raise ValueError("loader is over another dataset object than the one to attach")
    if loader.batch_size is None:
        raise ValueError(
            "The DataLoader has batch_size=None, so its samples are batches already and have no "
            "id each: let it make the batches"
        )
    if loader.batch_size != dataset.batch_size:
        # Streaming deals whole batches of its own size to the workers, and each worker's loader
        # cuts them anew: more batches than len() says, and Composer stops at len().
        raise ValueError(
            f"The DataLoader has batch_size={loader.batch_size}, but its StreamingDataset has "
            f"batch_size={dataset.batch_size}: give both the same, the number of samples per batch "
            "on each rank"
        )
    if isinstance(loader.collate_fn, IdCollate):
        return
    if loader._iterator is not None:
        raise RuntimeError(
            "The DataLoader's persistent workers are already running with the dataset as it was: "
            "attach before the first iteration"
        )
    own = next(cls for cls in type(loader).__mro__ if "__iter__" in vars(cls))
    if own not in (DataLoader, StreamingDataLoader):
        raise ValueError(
            f"{own.__name__} overrides DataLoader.__iter__, which would see batches with their "
            "ids: do what it does in collate_fn (keeping the order of the samples) or in the "
            "dataset instead"
        )
