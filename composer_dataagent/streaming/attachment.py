# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a handle to attached data can do, whatever kind of data set it serves from."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from composer_dataagent.streaming.rounds import Rounds
from composer_dataagent.streaming.store import SelectionRecord
from composer_dataagent.streaming.tally import Egress

#: Sample ids: whole numbers in a sequence, an array or a tensor.
Ids = Sequence[int] | NDArray[np.int64] | torch.Tensor


@dataclass(frozen=True)
class Shards:
    """What a data set's index tells of its shards.

    Attributes:
        stream (NDArray[np.int64]): ``[S]`` the stream that each belongs to.
        bytes_per_sample (NDArray[np.float64]): ``[S]`` mean size of their samples, uncompressed.
        samples (NDArray[np.int64]): ``[S]`` how many they have, in the order of ids.
    """

    stream: NDArray[np.int64]
    bytes_per_sample: NDArray[np.float64]
    samples: NDArray[np.int64]


class Attachment(ABC):
    """The handle to an attached dataset; made by :func:`~composer_dataagent.streaming.attach`.

    Attributes:
        dataset (Any): The user's object.
        num_samples (int): Size ``N`` of the whole data set; sample ids are 0 to N - 1.
    """

    dataset: Any
    num_samples: int

    @abstractmethod
    def upcoming_epoch(self) -> int:
        """The epoch that the next iteration runs, a pending resume included."""

    @abstractmethod
    def fingerprint(self) -> str:
        """What tells this data set from others, in words: a checkpoint belongs to one of them."""

    @abstractmethod
    def has_standing_selection(self) -> bool:
        """Whether :meth:`serve_always` restricts the data."""

    @abstractmethod
    def serve(self, ids: Ids | NDArray[np.bool_], epoch: int | None = None) -> SelectionRecord:
        """Serve exactly these samples in one epoch, and make ``len()`` say so.

        Every rank calls this with the same ids.

        Args:
            ids (Ids | NDArray[np.bool_]): Sample ids in any order, or a mask ``[N]``.
            epoch (int | None): Which epoch. Default: the upcoming one.

        Returns:
            SelectionRecord: Epoch, size and digest.

        Raises:
            ValueError: No id, one twice, one outside the data set, or too few to deal; or the epoch
                is negative.
            TypeError: The ids, or the epoch, are not integers.
        """

    @abstractmethod
    def serve_always(self, ids: Ids | NDArray[np.bool_]) -> SelectionRecord:
        """Serve exactly these samples from the upcoming epoch on. See :meth:`serve`."""

    @abstractmethod
    def may_leave_out(self, size: int, loader: DataLoader) -> int:
        """How many of ``size`` selected samples a complete epoch leaves out at most.

        Args:
            size (int): Selected samples.
            loader (DataLoader): The loader, which may drop incomplete batches.
        """

    @abstractmethod
    def batches_left(self, loader: DataLoader, size: int, done: int = 0) -> int:
        """How many batches each rank still gets of a selection.

        Args:
            loader (DataLoader): The loader.
            size (int): Selected samples.
            done (int): How many of them are done, over all ranks. Default: ``0``.
        """

    @abstractmethod
    def order_of(self, epoch: int) -> NDArray:
        """All ids in the order in which an epoch without a selection would serve them.

        The same on all ranks, which take turns in it. Parts of it are what rounds choose from: a
        round touches the shards that this part of an epoch would have touched.

        Args:
            epoch (int): Any number; another order in each, if the data are shuffled.
        """

    def go_on(self, loader: DataLoader, sizes: Sequence[int], served_before: int) -> None:
        """Make what :meth:`serve` got last a round of the trainer's epoch.

        A loader goes on with it when the round that it is in ends, and its length is that of all
        rounds.

        Args:
            loader (DataLoader): The loader.
            sizes (Sequence[int]): Selected samples in each of the epoch's rounds.
            served_before (int): How many samples the trainer counts in earlier rounds.
        """
        batches = sum(self.batches_left(loader, size) for size in sizes)
        loader.rounds = Rounds(batches)  # type: ignore[attr-defined]  # it is attached

    @abstractmethod
    def read(
        self, ids: NDArray[np.int64], loader: DataLoader, batch_size: int
    ) -> Iterator[tuple[NDArray[np.int64], Any]]:
        """Read samples without training on them; what epochs serve is not touched.

        Args:
            ids (NDArray[np.int64]): ``[M]`` which.
            loader (DataLoader): The loader, whose ``collate_fn`` makes the batches.
            batch_size (int): Samples in a batch.

        Yields:
            tuple[NDArray[np.int64], Any]: The ids of a batch ``[B]``, and the batch.
        """

    def shards_of(self, ids: NDArray) -> NDArray[np.int64]:
        """The shard that each sample is in, ``[M]`` for ``[M]`` ids. Default: all in one."""
        return np.zeros(len(ids), np.int64)

    def shards(self) -> Shards:
        """What is known of shards before they are read. Default: one, of one stream."""
        return Shards(np.zeros(1, np.int64), np.ones(1), np.array([self.num_samples]))

    @abstractmethod
    def fetch_ahead(self) -> None:
        """Begin to fetch what the upcoming epoch serves first, while something else is done.

        Called between two epochs, after :meth:`serve`, on every rank; as much is fetched as the
        epoch's own workers would fetch ahead, and they do not wait for it.
        """

    def has_remote(self) -> bool:
        """Whether anything can be fetched from elsewhere. Default: no."""
        return False

    def egress(self) -> Egress:
        """What all processes of this node have fetched from a remote since the data were attached.

        Default: nothing.
        """
        return Egress()

    @abstractmethod
    def raw_sample(self, sample_id: int) -> dict[str, Any]:
        """A sample to look at, as columns; no global random state moves.

        Args:
            sample_id (int): 0 to N - 1.

        Raises:
            IndexError: No such sample.
        """

    @abstractmethod
    def resume_here(self, sample_in_epoch: int) -> None:
        """Make the next iteration go on inside the epoch that was just left unfinished.

        Every rank calls this with the same number, and before any of them iterates.

        Args:
            sample_in_epoch (int): How many samples of the epoch are done, over all ranks; counted
                from its very beginning, also if it was resumed before.

        Raises:
            RuntimeError: No epoch has begun.
            ValueError: Negative, or more samples than the epoch has.
        """

    @abstractmethod
    def resume_at(self, epoch: int, sample_in_epoch: int) -> None:
        """Go on in a new process where a checkpoint was written, before anything is served.

        Args:
            epoch (int): What :meth:`upcoming_epoch` was, or the epoch that was running.
            sample_in_epoch (int): How many samples of it are done, over all ranks.
        """


def epoch_number(epoch: int) -> int:
    """An exact int (a range looks for any other number one by one).

    Raises:
        TypeError: Not a whole number.
        ValueError: Negative.
    """
    number = operator.index(epoch)
    if isinstance(epoch, bool) or number < 0:
        raise ValueError(f"epoch={epoch!r} is not accepted; epochs count from 0")
    return number


def to_mask(ids: Ids | NDArray[np.bool_], num_samples: int) -> NDArray[np.bool_]:
    """Check sample ids (or a mask) and give them as a mask ``[N]``.

    Raises:
        ValueError: No id, one twice, one outside the data set, or a mask of another length.
        TypeError: Neither integers nor booleans.
    """
    if isinstance(ids, np.ma.MaskedArray):
        raise TypeError("sample ids are a masked array: give its compressed() or filled() values")
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
