# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A small real data set in shards, a small model, and a trainer over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from composer import Trainer
from composer.core import Algorithm, Callback
from composer.models import ComposerClassifier
from composer.optim import CosineAnnealingScheduler
from sklearn.datasets import load_digits
from streaming import MDSWriter, StreamingDataset
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

NUM_SAMPLES = 203  # odd on purpose: last batches are ragged
CLASSES = 10


class Digits(StreamingDataset):
    """A user's own subclass, which knows nothing of this package."""

    def __getitem__(self, at: Any) -> Any:
        sample = super().__getitem__(at)
        return torch.from_numpy(sample["x"].copy()), int(sample["y"])


class StoredDigits(Dataset):
    """A user's own map-style dataset, which knows nothing of this package; counts what is read."""

    def __init__(self) -> None:
        images, labels = load_digits(return_X_y=True)
        self.x = torch.from_numpy((images[:NUM_SAMPLES] / 16.0).astype(np.float32))
        self.y = labels[:NUM_SAMPLES].tolist()
        self.reads = 0

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, at: int) -> Any:
        self.reads += 1
        return self.x[at], self.y[at]


class Recorder(Callback):
    """Remembers what a run did: the ids of every batch, LR, and the final weights."""

    def __init__(self) -> None:
        self.ids: list[tuple[int, list[int]]] = []
        self.learning_rates: list[float] = []

    def after_train_batch(self, state: Any, logger: Any) -> None:
        ids = getattr(state.train_dataloader, "sample_ids", None)
        if ids is not None:
            self.ids.append((int(state.timestamp.epoch), ids.tolist()))
        self.learning_rates.append(state.optimizers[0].param_groups[0]["lr"])

    def by_epoch(self) -> list[list[int]]:
        epochs = sorted({epoch for epoch, _ in self.ids})
        return [[i for e, ids in self.ids if e == epoch for i in ids] for epoch in epochs]


def make_model(dropout: float = 0.0) -> ComposerClassifier:
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 24),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(24, CLASSES),
    )
    return ComposerClassifier(net, num_classes=CLASSES)


def write_shards(folder: str, num_samples: int = NUM_SAMPLES, size_limit: int = 8_000) -> str:
    """The first samples of scikit-learn's digits as MDS shards, of about 25 samples by default."""
    images, labels = load_digits(return_X_y=True)
    columns = {"x": "ndarray:float32:64", "y": "int"}
    with MDSWriter(out=folder, columns=columns, size_limit=size_limit) as writer:
        for image, label in zip(images[:num_samples], labels[:num_samples], strict=True):
            writer.write({"x": (image / 16.0).astype(np.float32), "y": int(label)})
    return folder


def make_loader(
    shards: str,
    *,
    batch_size: int = 16,
    num_workers: int = 0,
    remote: str | None = None,
    **loader: Any,
) -> DataLoader:
    """A loader over shards in a folder, which come there from another one if that is named."""
    dataset = Digits(
        local=shards, remote=remote, shuffle=True, batch_size=batch_size, shuffle_seed=5
    )
    return DataLoader(dataset, batch_size=batch_size, num_workers=num_workers, **loader)


def make_map_loader(
    *, batch_size: int = 16, distributed: dict[str, Any] | None = None, **loader: Any
) -> DataLoader:
    """A loader over the same samples, map-style; ``distributed``: of a DistributedSampler."""
    dataset = StoredDigits()
    if distributed is not None:
        loader["sampler"] = DistributedSampler(dataset, **distributed)
    else:
        loader.setdefault("shuffle", True)
    return DataLoader(dataset, batch_size=batch_size, **loader)


def build_trainer(
    loader: DataLoader,
    algorithms: Algorithm | Sequence[Algorithm] | None = None,
    *,
    model: ComposerClassifier | None = None,
    epochs: int = 3,
    callbacks: Sequence[Callback] = (),
    **kwargs: Any,
) -> Trainer:
    model = model or make_model()
    kwargs.setdefault("max_duration", f"{epochs}ep")
    kwargs.setdefault("progress_bar", False)
    kwargs.setdefault("schedulers", CosineAnnealingScheduler())
    kwargs.setdefault("optimizers", torch.optim.Adam(model.parameters(), lr=3e-3))
    return Trainer(
        model=model,
        train_dataloader=loader,
        algorithms=algorithms,
        callbacks=list(callbacks),
        device="cpu",
        seed=7,
        **kwargs,
    )


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: w.detach().clone() for name, w in trainer.state.model.state_dict().items()}
