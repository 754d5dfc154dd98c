# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which selected samples of map-style data a rank serves in which epoch, and in which order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler, RandomSampler, Sampler

from composer_dataagent.streaming.errors import SelectionCorruptError, SelectionMissingError
from composer_dataagent.streaming.store import SelectionRecord

CHUNK = 1 << 16


def deal(
    ids: NDArray[np.int64], given: Sampler[Any], shuffle_seed: int, epoch: int
) -> NDArray[np.int64]:
    """What one rank serves of the selected ids: what the user's sampler would make of them alone.

    Args:
        ids (NDArray[np.int64]): The selected sample ids, sorted.
        given (Sampler): The user's. A ``DistributedSampler`` deals (and shuffles, pads and drops)
            by its own rule and its own ``seed`` and ``epoch``; a ``RandomSampler`` shuffles; any
            other one keeps the order.
        shuffle_seed (int): Seeds the order of a ``RandomSampler``, at least 0.
        epoch (int): So does this.

    Returns:
        NDArray[np.int64]: Ids in the order in which this rank serves them. With a
        ``DistributedSampler``, equally many on all ranks: some ids come on two of them, or, if it
        drops, on none.
    """
    if isinstance(given, DistributedSampler):
        dealer = _dealer(given, len(ids))
        return ids[np.fromiter(dealer, np.int64, len(dealer))]
    if isinstance(given, RandomSampler):
        return np.random.default_rng([shuffle_seed, epoch]).permutation(ids)
    return ids


def ranks_of(given: Sampler[Any]) -> int:
    """How many ranks a sampler deals to."""
    return given.num_replicas if isinstance(given, DistributedSampler) else 1


def share_of(given: Sampler[Any], size: int) -> int:
    """How many of ``size`` samples each rank gets."""
    return len(_dealer(given, size)) if isinstance(given, DistributedSampler) else size


def _dealer(given: DistributedSampler, size: int) -> DistributedSampler:
    dealer: DistributedSampler = DistributedSampler(
        range(size),  # type: ignore[arg-type]  # it takes anything that has a length
        given.num_replicas,
        given.rank,
        given.shuffle,
        given.seed,
        given.drop_last,
    )
    dealer.set_epoch(given.epoch)
    return dealer


class SelectedSampler(Sampler[int]):
    """Stands in a loader's ``BatchSampler`` in place of the user's own sampler.

    Knows the selection of each epoch and which epoch comes next. To be iterated does not move it
    on: the loader says when an epoch begins, so that looking at a sampler changes nothing.

    Args:
        given (Sampler): The user's sampler, see :func:`deal`.
        num_samples (int): Size of the data set, ``N``.
        shuffle_seed (int): See :func:`deal`.
    """

    def __init__(self, given: Sampler[Any], num_samples: int, shuffle_seed: int) -> None:
        self.given = given
        self.num_samples = num_samples
        self.shuffle_seed = shuffle_seed
        self.next_epoch = 0
        self._selections: dict[int | None, tuple[NDArray[np.int64], SelectionRecord]] = {}
        self._begun = -1  # the epoch that began last
        self._done = 0  # samples of the next epoch that all ranks together have served already
        self._unfinished: SelectionRecord | None = None  # what the next epoch began with
        self._order: NDArray[np.int64] | None = None  # of an epoch that began and is not read yet

    # ---------------------------------------------------------------------- what is selected

    def publish(self, mask: NDArray[np.bool_], epoch: int | None) -> SelectionRecord:
        """Set the selection of an epoch, or of all that have none of their own.

        Args:
            mask (NDArray[np.bool_]): ``[N]``, true where selected.
            epoch (int | None): Which epoch; ``None``: all others.

        Returns:
            SelectionRecord: With the digest that ranks compare.

        Raises:
            ValueError: No rank would get a sample.
            SelectionCorruptError: The epoch is to be finished, but began with another selection.
        """
        digest = hashlib.sha256(np.packbits(mask).data).hexdigest()
        record = SelectionRecord(epoch, self.num_samples, int(mask.sum()), digest)
        share = share_of(self.given, record.size)
        if share == 0:
            raise ValueError(
                f"{record.size} selected samples cannot be dealt to {ranks_of(self.given)} ranks "
                "by a sampler with drop_last=True: select at least one for each rank"
            )
        if epoch in (None, self.next_epoch):
            self._check_unfinished(record, share)
        if epoch is None and None in self._selections:
            # The running epoch keeps what it began with.
            self._selections.setdefault(self.next_epoch - 1, self._selections[None])
        self._selections[epoch] = np.flatnonzero(mask), record
        return record

    def keep_only(self, epochs: range) -> None:
        """Forget the selections of epochs outside ``epochs``."""
        self._selections = {
            epoch: selection
            for epoch, selection in self._selections.items()
            if epoch is None or epoch in epochs
        }

    def standing(self) -> SelectionRecord | None:
        """The selection of all epochs that have none of their own."""
        return self._selections[None][1] if None in self._selections else None

    def _selection(self, epoch: int) -> tuple[NDArray[np.int64], SelectionRecord]:
        selection = self._selections.get(epoch) or self._selections.get(None)
        if selection is None:
            raise SelectionMissingError(
                f"No selection was published for epoch {epoch} of the training data: after "
                "attach(), call serve() before iterating. If that was done, something else "
                "iterated over the training DataLoader and so moved its epoch on; all samples "
                "would be a wrong guess. Give evaluators a DataLoader of their own."
            )
        return selection

    # ---------------------------------------------------------------------- epochs

    def order_of(self, epoch: int) -> NDArray[np.int64]:
        """All ids, in an order of their own in each epoch if the user's sampler shuffles."""
        given, ids = self.given, np.arange(self.num_samples)
        shuffles = given.shuffle if isinstance(given, DistributedSampler) else None
        if shuffles or isinstance(given, RandomSampler):
            # Not as those that are selected are shuffled later.
            np.random.default_rng([self.shuffle_seed, epoch, 1]).shuffle(ids)
        return ids

    def begin_epoch(self) -> NDArray[np.int64]:
        """The ids that this rank serves in the epoch that begins now, in order.

        Raises:
            SelectionMissingError: Nothing was published for it.
        """
        order = self._remaining()
        self._begun = self.next_epoch
        self.next_epoch += 1
        self._done, self._unfinished = 0, None
        self._order = order
        return order

    def resume(self, epoch: int, sample_in_epoch: int) -> None:
        """Let the next epoch be ``epoch``, from behind the samples that are done.

        Args:
            epoch (int): Which epoch.
            sample_in_epoch (int): Of all ranks together.
        """
        self.next_epoch = epoch
        self._begun = epoch if sample_in_epoch else epoch - 1
        self._done, self._unfinished = sample_in_epoch, None

    def resume_here(self, sample_in_epoch: int) -> None:
        """Let the epoch that began last be the next one. See :meth:`Attachment.resume_here`."""
        if self._begun < 0:
            raise RuntimeError("No epoch has begun, so there is none to go on with")
        _, record = self._selection(self._begun)
        share = share_of(self.given, record.size)
        self._share_done(sample_in_epoch, share, self._begun)
        self.next_epoch = self._begun
        self._done, self._unfinished = sample_in_epoch, record

    def _remaining(self) -> NDArray[np.int64]:
        """What this rank serves in the next epoch, without what it has served already."""
        ids, _ = self._selection(self.next_epoch)
        order = deal(ids, self.given, self.shuffle_seed, self.next_epoch)
        return order[self._share_done(self._done, len(order), self.next_epoch) :]

    def _share_done(self, sample_in_epoch: int, share: int, epoch: int) -> int:
        """How many samples each rank has served, if all together have ``sample_in_epoch``."""
        ranks = ranks_of(self.given)
        if not 0 <= sample_in_epoch <= share * ranks or sample_in_epoch % ranks:
            raise ValueError(
                f"sample_in_epoch={sample_in_epoch} is not in epoch {epoch}, in which each of "
                f"{ranks} ranks serves {share} samples: count those that all ranks together have "
                "taken"
            )
        return sample_in_epoch // ranks

    def _check_unfinished(self, record: SelectionRecord, share: int) -> None:
        """Refuse to finish an epoch with another selection than it began with."""
        self._share_done(self._done, share, self.next_epoch)
        began = self._unfinished
        if began is not None and began.digest != record.digest:
            raise SelectionCorruptError(
                f"Epoch {self.next_epoch} began with another selection ({began.size} samples, "
                f"digest {began.digest[:12]}) than the one that is to finish it ({record.size} "
                f"samples, digest {record.digest[:12]}): select the same samples"
            )

    # ---------------------------------------------------------------------- what torch calls

    def __iter__(self) -> Iterator[int]:
        order, self._order = self._order, None
        return _as_ints(self._remaining() if order is None else order)

    def __len__(self) -> int:
        for epoch in (self.next_epoch, self._begun):  # which runs, until the next is selected
            selection = self._selections.get(epoch) or self._selections.get(None)
            if selection is not None:
                return share_of(self.given, selection[1].size)
        return share_of(self.given, self.num_samples)


def _as_ints(ids: NDArray[np.int64]) -> Iterator[int]:
    """Python's numbers take five times an array's memory, so not those of all ids at once."""
    starts = range(0, len(ids), CHUNK)
    return chain.from_iterable(ids[at : at + CHUNK].tolist() for at in starts)
