# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Sample ids beside the batch: the user's batch comes out of the loader unchanged."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader


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

    def __call__(self, samples: list[Any]) -> tuple[Any, Tensor]:
        """Collate a batch; ids come as int64 ``[B]``."""
        ids = list(self.dataset.recent_ids)[-len(samples) :]
        fetched = samples.copy()
        batch = self.collate(samples)
        return batch, torch.tensor(_follow(samples, fetched, ids), dtype=torch.int64)


def _follow(samples: list[Any], fetched: list[Any], ids: list[int]) -> list[int]:
    """The ids in the order into which a collate function has sorted its list, as some do."""
    if all(now is then for now, then in zip(samples, fetched, strict=False)):
        return ids
    id_of = {id(sample): i for sample, i in zip(fetched, ids, strict=True)}
    if len(samples) != len(fetched) or any(id(sample) not in id_of for sample in samples):
        return ids  # it put other objects in their places
    return [id_of[id(sample)] for sample in samples]


@functools.cache
def beside(cls: type[DataLoader]) -> type[DataLoader]:
    """The subclass of a loader class that keeps the ids of the batch it yields.

    Args:
        cls (type[DataLoader]): ``DataLoader``, ``StreamingDataLoader`` or a subclass.

    Returns:
        type[DataLoader]: One class per ``cls``, of the same name. Its ``sample_ids`` is the int64
        tensor ``[B]`` of the batch yielded last.
    """

    class Beside(cls):  # type: ignore[valid-type, misc]
        sample_ids: Tensor

        def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
            # torch warns of epochs longer than len() said when it was last asked.
            self._IterableDataset_len_called = None
            for batch, ids in super().__iter__():
                self.sample_ids = ids
                yield batch

        def _get_batch_size(self, batch: tuple[Any, Tensor]) -> int:
            # StreamingDataLoader counts below us, where the batch still has its ids.
            return len(batch[1])

    Beside.__name__, Beside.__qualname__ = cls.__name__, cls.__qualname__
    Beside.__module__, Beside.__doc__ = cls.__module__, cls.__doc__
    return Beside
