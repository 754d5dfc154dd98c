# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""MDS shards whose samples can be told apart, and loaders over them that check what they serve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from traceback import clear_frames
from typing import Any

import numpy as np
import pytest
import torch
from streaming import MDSWriter, Stream, StreamingDataLoader, StreamingDataset
from torch.utils.data import DataLoader

from composer_dataagent.streaming import Attachment, attach

BATCH = 8
# Ragged shards, a prime number of samples in all.
SHARDS = (13, 1, 29, 7, 30, 17)
NUM_SAMPLES = sum(SHARDS)


class Bare(StreamingDataset):
    """A user's subclass that gives bare tensors, and no id."""

    def __getitem__(self, at: Any) -> Any:
        return torch.tensor(super().__getitem__(at)["x"])


class Jittered(StreamingDataset):
    """A user's subclass with a random transform."""

    def __getitem__(self, at: Any) -> Any:
        return torch.tensor(super().__getitem__(at)["x"]) + torch.rand(1)


def columns_of(sample_id: int) -> dict[str, Any]:
    """What is stored for a sample: everything follows from its id."""
    return {"id": sample_id, "x": 0.5 - 3.0 * sample_id}


def write_shards(
    folder: str | Path, sizes: Sequence[int] = SHARDS, first_id: int = 0, **writer: Any
) -> str:
    """One shard for each size, with ids counted from ``first_id``."""
    columns = {"id": "int", "x": "float64"}
    ids = iter(range(first_id, first_id + sum(sizes)))
    with MDSWriter(out=str(folder), columns=columns, size_limit=None, **writer) as out:
        for size in sizes:
            if out.new_samples:  # no shard ends by its size, but here
                out.flush_shard()
                out._reset_cache()
            for _ in range(size):
                out.write(columns_of(next(ids)))
    return str(folder)


def write_streams(folder: Path, parts: Sequence[Sequence[int]]) -> list[Stream]:
    """One stream for each part, with ids that go on from stream to stream."""
    streams, first_id = [], 0
    for at, sizes in enumerate(parts):
        streams.append(Stream(local=write_shards(folder / f"stream-{at}", sizes, first_id)))
        first_id += sum(sizes)
    return streams


def make_dataset(
    shards: str | None, cls: type[StreamingDataset] = StreamingDataset, **arguments: Any
) -> StreamingDataset:
    return cls(**{"local": shards, "batch_size": BATCH, "shuffle": True, **arguments})


def make_loader(
    dataset: StreamingDataset, cls: type[DataLoader] = DataLoader, **arguments: Any
) -> DataLoader:
    return cls(dataset, **{"batch_size": BATCH, **arguments})


def make_attached(
    shards: str | None,
    dataset_cls: type[StreamingDataset] = StreamingDataset,
    loader_cls: type[DataLoader] = StreamingDataLoader,
    *,
    dataset: dict[str, Any] | None = None,
    attach_with: Mapping[str, Any] | None = None,
    **loader: Any,
) -> tuple[Attachment, DataLoader]:
    made = make_loader(make_dataset(shards, dataset_cls, **dataset or {}), loader_cls, **loader)
    return attach(made.dataset, made, **attach_with or {}), made


def served(loader: Any) -> list[list[int]]:
    """Run an epoch; give the ids of each batch after a check that its contents are theirs."""
    return list(map(partial(checked_ids, loader), loader))


def checked_ids(loader: Any, batch: Any) -> list[int]:
    ids = loader.sample_ids
    assert ids.dtype == torch.int64
    x = batch["x"] if isinstance(batch, dict) else batch
    assert x.tolist() == [columns_of(sample_id)["x"] for sample_id in ids.tolist()]
    if isinstance(batch, dict):
        assert torch.equal(batch["id"], ids)
    return ids.tolist()


def assert_exactly_once(
    batches: Iterable[Iterable[int]], selected: Iterable[int], padding: int = 0
) -> None:
    """Every selected id is served once; at most ``padding`` ids are served a second time."""
    counts = Counter(int(sample_id) for batch in batches for sample_id in batch)
    selected = {int(sample_id) for sample_id in selected}
    assert set(counts) == selected
    assert sum(counts.values()) - len(selected) <= padding


def draw(size: int, seed: int, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    """A random selection, in random order."""
    return np.random.default_rng(seed).permutation(num_samples)[:size]


def assert_fails(loader: Any, error: type[Exception], message: str) -> None:
    """Running an epoch raises ``error``, in this process, also where a worker failed."""
    with pytest.raises(error, match=message) as caught:
        served(loader)
    # The error's frames hold the loader, in a cycle: and torch takes 5 s to stop a worker of a
    # loader that is left to the garbage collector.
    clear_frames(caught.tb)
    del caught
