# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A map-style dataset whose samples can be told apart, and loaders over it."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from composer_dataagent.streaming import Attachment, attach

BATCH = 8
NUM_SAMPLES = 61


class Squares(Dataset):
    """A user's own class: sample ``i`` is ``(i * i, i)``. Counts what this process reads."""

    def __init__(self, size: int = NUM_SAMPLES) -> None:
        self.size = size
        self.reads = 0

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, at: int) -> Any:
        assert type(at) is int, "stock samplers give Python integers"
        self.reads += 1
        return torch.tensor(float(at * at)), at


def make_loader(dataset: Any = None, **loader: Any) -> DataLoader:
    return DataLoader(dataset or Squares(), **{"batch_size": BATCH, **loader})


def make_attached(dataset: Any = None, **loader: Any) -> tuple[Attachment, DataLoader]:
    made = make_loader(dataset, **loader)
    return attach(made.dataset, made), made


def checked_ids(loader: Any, batch: Any) -> list[int]:
    """The ids of the batch, after a check that its contents are theirs."""
    ids = loader.sample_ids
    assert ids.dtype == torch.int64
    squares, numbers = batch
    assert numbers.equal(ids) and squares.equal((ids * ids).float())
    return ids.tolist()


def served(loader: Any) -> list[list[int]]:
    """Run an epoch; give the ids of each batch."""
    return [checked_ids(loader, batch) for batch in loader]


def stock(loader: Any) -> list[list[int]]:
    """Run an epoch of a loader that was not attached."""
    return [numbers.tolist() for _, numbers in loader]
