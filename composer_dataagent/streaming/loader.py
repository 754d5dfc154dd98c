# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Sample ids beside the batch: the user's batch comes out of the loader unchanged."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from traceback import clear_frames
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from streaming import StreamingDataLoader, StreamingDataset
from torch import Tensor
from torch.utils.data import DataLoader

from composer_dataagent.streaming.repairs import named_after
from composer_dataagent.streaming.rounds import Rounds


class IdCollate:
    """Collates samples to ``(batch, ids)``, in the process that fetched them.

    Args:
        collate (Callable): The user's ``collate_fn``.
        dataset (Any): The dataset, whose ``recent_ids`` end with those of the batch: torch collates
            a batch right after it has fetched its last sample. (In a worker, dataset and collate
            are this worker's copies of both.)
    """

    def __init__(self, collate: Callable[[list[Any]], Any], dataset: Any) -> None:
        self.collate = collate
        self.dataset = dataset

    def __call__(self, samples: list[Any]) -> tuple[Any, NDArray[np.int64]]:
        """Collate a batch; ids come as int64 ``[B]``.

        An array and not a tensor, for which torch would open a socket between worker and main
        process, for every batch.
        """
        ids = list(self.dataset.recent_ids)[-len(samples) :]
        fetched = samples.copy()
        try:
            batch = self.collate(samples)
        except StopIteration as error:
            # torch would take it for the end of the epoch.
            raise RuntimeError("The collate_fn raised StopIteration") from error
        return batch, np.array(follow(samples, fetched, ids), np.int64)


class PlaceCollate:
    """Collates samples to ``(batch, places)``, in the process that fetched them.

    The main process knows which ids it asked for. What it cannot see is a collate function that
    sorts the list it is given, as some do: ``places`` are the samples' former places then, and
    ``None`` where they stayed.

    Args:
        collate (Callable): The user's ``collate_fn``.
    """

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: Any) -> tuple[Any, list[int] | None]:
        """Collate a batch."""
        if not isinstance(samples, list):  # what a dataset's __getitems__ made of it
            return self.collate(samples), None
        fetched, places = samples.copy(), list(range(len(samples)))
        batch = self.collate(samples)
        followed = follow(samples, fetched, places)
        return batch, None if followed is places else followed


def follow(samples: list[Any], fetched: list[Any], ids: list[int]) -> list[int]:
    """The ids in the order into which a collate function has sorted its list, as some do.

    Args:
        samples (list[Any]): The list, after the collate function had it.
        fetched (list[Any]): A copy from before.
        ids (list[int]): Of the samples in ``fetched``.

    Returns:
        list[int]: ``ids`` itself where nothing was moved.
    """
    if all(now is then for now, then in zip(samples, fetched, strict=False)):
        return ids
    ids_of: dict[int, deque[int]] = {}  # one object can be several samples
    for sample, i in zip(fetched, ids, strict=True):
        ids_of.setdefault(id(sample), deque()).append(i)
    if sorted(map(id, samples)) != sorted(map(id, fetched)):
        return ids  # it put other objects in their places
    return [ids_of[id(sample)].popleft() for sample in samples]


@functools.cache
def beside(cls: type[DataLoader]) -> type[DataLoader]:
    """The subclass of a loader class that keeps the ids of the batch it yields.

    Args:
        cls (type[DataLoader]): ``DataLoader``, ``StreamingDataLoader`` or a subclass.

    Returns:
        type[DataLoader]: One class per ``cls``, of the same name. Its ``sample_ids`` is the int64
        tensor ``[B]`` of the batch yielded last.
    """

    class Beside(in_rounds(cls)):
        sample_ids: Tensor
        _is_between_epochs = False

        def _one_round(self) -> Iterator[Any]:
            # torch warns of epochs longer than len() said when it was last asked.
            self._IterableDataset_len_called = None
            self._is_between_epochs = False
            batches = super()._one_round()
            while True:
                try:
                    batch, ids = next(batches)
                except StopIteration:
                    break
                except (RuntimeError, OSError, EOFError) as error:
                    if not self.num_workers or not tells_of_killed_worker(error):
                        raise
                    self._leave_behind(error)
                    raise RuntimeError(
                        f"DataLoader worker killed, or ended by itself, in the middle of an epoch: "
                        f"{error}. The system kills processes when it is out of memory (dmesg "
                        "says so)"
                    ) from error
                self.sample_ids = torch.from_numpy(ids)
                yield batch
            self._is_between_epochs = True

        def _leave_behind(self, error: BaseException) -> None:
            """End the workers that are left, so that another epoch can be tried with new ones."""
            iterator, self._iterator = self._iterator, None
            with contextlib.suppress(RuntimeError):  # torch, of each worker that ends now
                clear_frames(error.__traceback__)  # which hold its iterator, and that the workers
                if iterator is not None:  # persistent workers, of which it would ask the dead again
                    iterator._shutdown_workers()  # type: ignore[attr-defined]
            self.dataset.start_over()  # type: ignore[attr-defined]  # it is selective

        def _get_batch_size(self, batch: tuple[Any, NDArray[np.int64]]) -> int:
            # StreamingDataLoader counts below us, where the batch still has its ids.
            return len(batch[1])

    class Stateful(Beside):
        def state_dict(self) -> Any:
            """Where to go on."""
            if self._is_between_epochs and isinstance(self.dataset, StreamingDataset):
                # Stock code names the end of the epoch that is over: a resumed loop would begin
                # with an epoch of no batches.
                return self.dataset.state_dict(0, True)
            return super().state_dict()  # type: ignore[misc]  # of StreamingDataLoader

    return named_after(cls, Stateful if issubclass(cls, StreamingDataLoader) else Beside)


def in_rounds(cls: type[DataLoader]) -> type[Any]:
    """The subclass of a loader class that goes on from one round of an epoch to the next.

    Args:
        cls (type[DataLoader]): Any.

    Returns:
        type[Any]: Its ``rounds`` are set by :meth:`Attachment.go_on`; until then it is as ``cls``.
        ``_one_round`` iterates over what is selected now.
    """

    class InRounds(cls):  # type: ignore[valid-type, misc]
        rounds: Rounds | None = None

        def __len__(self) -> int:
            return super().__len__() if self.rounds is None else self.rounds.batches

        def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
            while True:
                began = self.rounds
                yield from self._one_round()
                if self.rounds is began:  # no other one was set while it ran
                    return

        def _one_round(self) -> Iterator[Any]:
            return super().__iter__()

    return InRounds


def tells_of_killed_worker(error: BaseException) -> bool:
    """Whether torch says, in one of its ways, that a worker is no longer there."""
    text = str(error)
    # Either it is missed, or it is gone when the memory of its last batch is asked for. What a
    # worker raised itself begins with "Caught".
    missed = text.startswith("DataLoader worker (pid") or "is killed by signal" in text
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return False  # this process has too many files open
    return missed or (isinstance(error, OSError | EOFError) and not text.startswith("Caught"))


def refuse_workers_that_know_nothing(dataset: object) -> None:
    """Look for loaders whose persistent workers already run with the dataset as it was.

    Raises:
        RuntimeError: There is one.
    """
    if not multiprocessing.active_children():
        return  # no worker runs; to look at every object is slow, and copies the memory of a fork
    for thing in gc.get_objects():  # not isinstance: it would ask objects that pose as others
        if issubclass(type(thing), DataLoader) and vars(thing).get("dataset") is dataset:
            _refuse_running_workers(thing)


def _refuse_running_workers(loader: DataLoader) -> None:
    if loader._iterator is not None:
        raise RuntimeError(
            "The DataLoader's persistent workers are already running with the dataset as it was: "
            "attach or select before the first iteration, or make a new DataLoader"
        )


def check_loader(
    dataset: object,
    loader: DataLoader,
    attached: bool,
    iterates: tuple[type[DataLoader], ...] = (DataLoader,),
) -> None:
    """Refuse loaders that cannot carry ids beside their batches.

    Args:
        dataset (object): What it should be over.
        loader (DataLoader): The loader.
        attached (bool): Whether it carries ids already.
        iterates (tuple[type[DataLoader], ...]): The classes whose ``__iter__`` is known. Default:
            torch's own.

    Raises:
        TypeError: Not a DataLoader.
        ValueError: Over another dataset, without batches, or its class iterates in its own way.
        RuntimeError: Its workers are already running.
    """
    if not isinstance(loader, DataLoader):
        raise TypeError(f"loader must be a torch DataLoader, but is a {type(loader).__name__}")
    if loader.dataset is not dataset:
        raise ValueError("loader is over another dataset object than the one to attach")
    if loader.batch_size is None and loader.batch_sampler is None:
        raise ValueError(
            "The DataLoader has batch_size=None, so its samples are batches already and have no "
            "id each: let it make the batches"
        )
    if attached:
        return
    _refuse_running_workers(loader)
    own = next(cls for cls in type(loader).__mro__ if "__iter__" in vars(cls))
    if own not in iterates:
        raise ValueError(
            f"{own.__name__} overrides DataLoader.__iter__, which would see batches with their "
            "ids: do what it does in collate_fn (keeping the order of the samples) or in the "
            "dataset instead"
        )
