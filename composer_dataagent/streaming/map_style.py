# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Turn the user's own DataLoader over map-style data into a selective one, in place."""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
)

from composer_dataagent.streaming.attachment import Attachment, Ids, epoch_number, to_mask
from composer_dataagent.streaming.errors import ShortEpochError
from composer_dataagent.streaming.loader import PlaceCollate, check_loader, in_rounds
from composer_dataagent.streaming.outside import read_batches
from composer_dataagent.streaming.repairs import named_after
from composer_dataagent.streaming.rounds import batches_of
from composer_dataagent.streaming.sampler import SelectedSampler, ranks_of, share_of
from composer_dataagent.streaming.store import SelectionRecord

SAMPLERS = (SequentialSampler, RandomSampler, DistributedSampler)
INSTEAD = (
    "shuffle=False, shuffle=True or sampler=DistributedSampler(dataset); for a fixed subset, a "
    "torch.utils.data.Subset(dataset, ids)"
)


class MapAttachment(Attachment):
    """The handle to an attached loader over map-style data; made by :func:`attach_map_style`.

    All that is known of selections and epochs is in the loader's sampler, in the main process:
    torch sends the ids of each batch to whichever worker reads it.
    """

    def __init__(self, loader: DataLoader) -> None:
        sampler = _sampler_of(loader)
        assert isinstance(sampler, SelectedSampler)
        self.dataset = loader.dataset
        self.num_samples = sampler.num_samples
        self._sampler = sampler

    def upcoming_epoch(self) -> int:
        """See :meth:`Attachment.upcoming_epoch`."""
        return self._sampler.next_epoch

    def fingerprint(self) -> str:
        """The number of samples: no more is known of them."""
        return f"{self.num_samples} map-style samples"

    def has_standing_selection(self) -> bool:
        """See :meth:`Attachment.has_standing_selection`."""
        standing = self._sampler.standing()
        return standing is not None and standing.size < self.num_samples

    def serve(self, ids: Ids | NDArray[np.bool_], epoch: int | None = None) -> SelectionRecord:
        """See :meth:`Attachment.serve`."""
        upcoming = self.upcoming_epoch()
        epoch = upcoming if epoch is None else epoch_number(epoch)
        record = self._sampler.publish(to_mask(ids, self.num_samples), epoch)
        # The epoch that is running may still have to be finished, see resume_here.
        self._sampler.keep_only(range(upcoming - 1, sys.maxsize))
        return record

    def serve_always(self, ids: Ids | NDArray[np.bool_]) -> SelectionRecord:
        """See :meth:`Attachment.serve_always`."""
        upcoming = self.upcoming_epoch()
        record = self._sampler.publish(to_mask(ids, self.num_samples), None)
        self._sampler.keep_only(range(upcoming - 1, upcoming))
        return record

    def may_leave_out(self, size: int, loader: DataLoader) -> int:
        """See :meth:`Attachment.may_leave_out`; here it is exact."""
        given = self._sampler.given
        share, batch_size = share_of(given, size), loader.batch_size or 1
        served = share - share % batch_size if loader.drop_last else share
        return max(0, size - served * ranks_of(given))

    def batches_left(self, loader: DataLoader, size: int, done: int = 0) -> int:
        """See :meth:`Attachment.batches_left`."""
        given = self._sampler.given
        left = share_of(given, size) - done // ranks_of(given)
        return batches_of(left, loader.batch_size or 1, loader.drop_last)

    def order_of(self, epoch: int) -> NDArray[np.int64]:
        """See :meth:`Attachment.order_of`: as the user's sampler shuffles, or does not."""
        return self._sampler.order_of(epoch)

    def read(
        self, ids: NDArray[np.int64], loader: DataLoader, batch_size: int
    ) -> Iterator[tuple[NDArray[np.int64], Any]]:
        """See :meth:`Attachment.read`; by as many workers as the loader has."""
        return read_batches(
            self.dataset,
            ids,
            loader,
            batch_size,
            num_workers=loader.num_workers,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
        )

    def fetch_ahead(self) -> None:
        """Nothing: what a sample takes is known to its dataset alone."""

    def raw_sample(self, sample_id: int) -> dict[str, Any]:
        """A sample as the user's dataset gives it, transforms included.

        Args:
            sample_id (int): 0 to N - 1.

        Returns:
            dict[str, Any]: Its entries by name, or by place where it has no names.

        Raises:
            IndexError: No such sample.
        """
        if not 0 <= sample_id < self.num_samples:
            raise IndexError(f"sample id {sample_id} is not one of 0 to {self.num_samples - 1}")
        with _random_state_kept():
            sample = self.dataset[sample_id]
        if not isinstance(sample, Mapping):
            entries = sample if isinstance(sample, tuple | list) else [sample]
            sample = dict(enumerate(entries))
        return {
            str(name): value.cpu().numpy() if isinstance(value, Tensor) else value
            for name, value in sample.items()
        }

    def resume_here(self, sample_in_epoch: int) -> None:
        """See :meth:`Attachment.resume_here`; what is done is not read again."""
        self._sampler.resume_here(sample_in_epoch)

    def resume_at(self, epoch: int, sample_in_epoch: int) -> None:
        """See :meth:`Attachment.resume_at`; what is done is not read again."""
        self._sampler.resume(epoch, sample_in_epoch)


def is_map_style(dataset: object) -> bool:
    """Whether torch would read a dataset by index."""
    return not isinstance(dataset, IterableDataset) and (
        hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    )


def attach_map_style(
    dataset: object, loader: DataLoader | None, shuffle_seed: int = 0
) -> MapAttachment:
    """Make a loader over map-style data selective. See :func:`.attach.attach`.

    The dataset is left as it is; what is changed is the loader: the sampler inside its batch
    sampler, and its ``sample_ids``. ``loader.sampler`` stays the user's, whose rule is followed.

    Args:
        dataset (object): With ``__getitem__`` and ``__len__``.
        loader (DataLoader | None): The loader over it; ``None`` is refused.
        shuffle_seed (int): Seeds the order of a ``RandomSampler`` to which no generator was given.

    Returns:
        MapAttachment: The handle that selects.

    Raises:
        TypeError: There is no loader, or it is not a DataLoader.
        ValueError: The loader's sampler or batch sampler decides itself which samples are served,
            or batches come in another order than they were asked for.
        RuntimeError: The loader's workers are already running.
    """
    if loader is None:
        raise TypeError(
            f"A {type(dataset).__name__} serves what its DataLoader's sampler asks for: attach it "
            "together with the loader. To serve a fixed subset of it without DataAgent, use "
            "torch.utils.data.Subset(dataset, ids)"
        )
    attached = isinstance(loader, DataLoader) and isinstance(_sampler_of(loader), SelectedSampler)
    check_loader(dataset, loader, attached)
    if attached:
        return MapAttachment(loader)
    num_samples = len(dataset)  # type: ignore[arg-type]  # is_map_style
    _check_batches(loader)
    _check_sampler(loader.sampler, num_samples)
    generator = getattr(loader.sampler, "generator", None)
    own_seed = generator not in (None, torch.default_generator)
    seed = generator.initial_seed() if own_seed else shuffle_seed
    # In place, since torch refuses to set a loader's samplers after it was made.
    batches: Any = loader.batch_sampler
    batches.sampler = SelectedSampler(batches.sampler, num_samples, seed)
    loader.collate_fn = PlaceCollate(loader.collate_fn)
    loader.__class__ = beside(type(loader))
    return MapAttachment(loader)


@functools.cache
def beside(cls: type[DataLoader]) -> type[DataLoader]:
    """The subclass of a loader class that keeps the ids of the batch it yields.

    Args:
        cls (type[DataLoader]): ``DataLoader`` or a subclass.

    Returns:
        type[DataLoader]: One class per ``cls``, of the same name. Its ``sample_ids`` is the int64
        tensor ``[B]`` of the batch yielded last.
    """

    class Beside(in_rounds(cls)):
        sample_ids: Tensor

        def _one_round(self) -> Iterator[Any]:
            # Batches come back in the order in which they were asked for, so their ids are known
            # here, whichever worker reads them and however far ahead.
            sampler: Any = _sampler_of(self)
            order, size = torch.from_numpy(sampler.begin_epoch()), self.batch_size or 1
            end = len(order) - len(order) % size if self.drop_last else len(order)
            asked = range(0, end, size)  # where batches begin, as torch cuts them
            served = 0
            for (batch, places), at in zip(super()._one_round(), asked, strict=False):
                served += 1
                ids = order[at : at + size]
                self.sample_ids = ids.clone() if places is None else ids[places]
                yield batch
            if served < len(asked):
                raise ShortEpochError(
                    f"The DataLoader ended an epoch after {served} of its {len(asked)} batches: "
                    "does the dataset raise StopIteration?"
                )

    return named_after(cls, Beside)


def _sampler_of(loader: DataLoader) -> object:
    """What a loader's batch sampler takes its ids from."""
    return getattr(loader.batch_sampler, "sampler", None)


def _check_batches(loader: DataLoader) -> None:
    """Batches that are not torch's own cuts of what the sampler gives have no ids."""
    if loader.batch_size is None or type(loader.batch_sampler) is not BatchSampler:
        raise ValueError(
            f"The DataLoader has batch_sampler={type(loader.batch_sampler).__name__}, which "
            f"decides itself what an epoch serves: give it batch_size, drop_last and {INSTEAD}"
        )
    if loader.num_workers > 0 and not loader.in_order:
        raise ValueError(
            "The DataLoader has in_order=False, so which samples a batch has is not known, and no "
            "run could be resumed exactly: remove it"
        )


def _check_sampler(sampler: Any, num_samples: int) -> None:
    """Refuse samplers whose rule would not survive a selection."""
    name = type(sampler).__name__
    if not any(
        isinstance(sampler, cls) and type(sampler).__iter__ is cls.__iter__ for cls in SAMPLERS
    ):
        raise ValueError(
            f"The DataLoader has sampler={name}, which decides itself what an epoch serves, and so "
            f"does a selection: use {INSTEAD}"
        )
    if getattr(sampler, "replacement", False):
        raise ValueError(
            f"The DataLoader's {name} has replacement=True, so it serves a sample more than once "
            "in an epoch, which a selection never does: remove it"
        )
    size = len(
        getattr(sampler, "dataset" if isinstance(sampler, DistributedSampler) else "data_source")
    )
    drawn = sampler.num_samples if isinstance(sampler, RandomSampler) else size
    if not drawn == size == num_samples:
        raise ValueError(
            f"The DataLoader's {name} draws {drawn} of {size} samples in an epoch, but the dataset "
            f"has {num_samples}: remove num_samples, and make the sampler over the dataset itself"
        )
    world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else None
    ranks = ranks_of(sampler)
    if world is not None and ranks != world:
        raise ValueError(
            f"The DataLoader's {name} deals the samples to {ranks} ranks, but there are {world}: "
            "use sampler=composer.utils.dist.get_sampler(dataset, shuffle=...)"
        )


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Let a user's transforms draw what they like, and put the global generators back."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
