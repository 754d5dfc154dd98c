# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Two epochs of DataAgent beside another algorithm, and an independent account of what happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from composer import Trainer
from composer.algorithms.low_precision_layernorm import apply_low_precision_layernorm
from composer.core import Algorithm, Callback, Precision
from composer.models import ComposerClassifier, ComposerModel, HuggingFaceModel
from model_families import tiny_bert
from PIL import Image
from sklearn.datasets import load_digits
from streaming import MDSWriter
from streaming.vision.base import StreamingVisionDataset
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import VisionDataset
from torchvision.models.resnet import Bottleneck
from torchvision.transforms import Compose, ToTensor

from composer_dataagent import DataAgent
from composer_dataagent.signals import BatchReader, Signals

NUM_SAMPLES, BATCH, CLASSES = 75, 16, 10  # last batches are ragged: 11 rows, and 6 when pruned
HALF = 38


# ---------------------------------------------------------------------- data


class Samples(Dataset):
    """Map-style data from a function of the sample's id."""

    def __init__(self, sample: Callable[[int], Any]) -> None:
        self.sample = sample

    def __len__(self) -> int:
        return NUM_SAMPLES

    def __getitem__(self, at: int) -> Any:
        return self.sample(at)


class Pictures(VisionDataset):
    """The digits as torchvision has its data sets: pictures that go through transforms."""

    def __init__(self) -> None:
        super().__init__(transform=ToTensor())
        images, self.labels = digits(channels=3)
        pixels = (255 * images).to(torch.uint8).permute(0, 2, 3, 1)
        self.pictures = [Image.fromarray(of_one.numpy()) for of_one in pixels]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, at: int) -> Any:
        assert self.transform is not None
        return self.transform(self.pictures[at]), self.labels[at]


def digits(channels: int = 1) -> tuple[Tensor, list[int]]:
    """Images ``[N, channels, 8, 8]`` in [0, 1], and labels."""
    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy((images[:NUM_SAMPLES] / 16).astype(np.float32)).view(-1, 1, 8, 8)
    return x.expand(-1, channels, -1, -1).contiguous(), labels[:NUM_SAMPLES].tolist()


LABELS = torch.tensor(digits()[1])


def image_loader(soft: bool = False, **loader: Any) -> DataLoader:
    """Images, and labels or (``soft``) class probabilities ``[B, C]``."""
    x, y = digits()
    targets: Any = soft_targets() if soft else y
    dataset = Samples(lambda at: (x[at], targets[at]))
    shuffle = "sampler" not in loader
    return DataLoader(dataset, batch_size=BATCH, shuffle=shuffle, **loader)


def soft_targets() -> Tensor:
    return 0.9 * torch.eye(CLASSES)[LABELS] + 0.1 / CLASSES


def picture_loader() -> DataLoader:
    return DataLoader(Pictures(), batch_size=BATCH, shuffle=True)


class StreamedPictures(StreamingVisionDataset):
    """The same pictures in shards, as streaming has its vision data sets."""

    def __init__(self, folder: str) -> None:
        pictures = Pictures()
        with MDSWriter(out=folder, columns={"x": "pil", "y": "int"}, size_limit=4_000) as writer:
            for x, y in zip(pictures.pictures, pictures.labels, strict=True):
                writer.write({"x": x, "y": y})
        # Their shuffle_algo has 64 canonical nodes, each filled up with repeated samples.
        super().__init__(
            local=folder,
            batch_size=BATCH,
            shuffle=True,
            num_canonical_nodes=1,
            transform=Compose([ToTensor()]),
        )


def text_loader(column: bool = False) -> DataLoader:
    """Sentences whose tokens depend on the label; labels ``[B]``, or a column ``[B, 1]``."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(10, (NUM_SAMPLES, 12), generator=generator) + 4 * LABELS[:, None]
    labels = LABELS[:, None] if column else LABELS
    mask = torch.ones(12, dtype=torch.long)

    def sample(at: int) -> dict[str, Tensor]:
        return {"input_ids": tokens[at], "attention_mask": mask, "labels": labels[at]}

    return DataLoader(Samples(sample), batch_size=BATCH, shuffle=True)


# ---------------------------------------------------------------------- models


def cnn(channels: int = 1, dropout: bool = False) -> ComposerClassifier:
    """Two convolutions, the second one strided, and a linear head."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, stride=2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout() if dropout else nn.Identity(),
    )
    net.add_module("head", nn.Linear(32, CLASSES))
    return ComposerClassifier(net, num_classes=CLASSES)


def conv_headed() -> ComposerClassifier:
    """A classifier whose head is a convolution, as SqueezeNet's is."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU())
    net.add_module("head", nn.Conv2d(32, CLASSES, 1))
    net.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten())
    return ComposerClassifier(net, num_classes=CLASSES)


def bottlenecks() -> ComposerClassifier:
    """Of the one kind of block that Composer's StochasticDepth knows."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), Bottleneck(16, 4), Bottleneck(16, 4), nn.AdaptiveAvgPool2d(1)
    )
    net.append(nn.Flatten()).add_module("head", nn.Linear(16, CLASSES))
    return ComposerClassifier(net, num_classes=CLASSES)


def bert() -> HuggingFaceModel:
    torch.manual_seed(3)
    return HuggingFaceModel(tiny_bert(CLASSES))


def bert_in_low_precision() -> HuggingFaceModel:
    """As Composer's algorithm makes it, which does nothing where there is no autocast."""
    model = bert()
    apply_low_precision_layernorm(model, precision=Precision.AMP_BF16)
    return model


# ---------------------------------------------------------------------- the account


@dataclass
class Batch:
    """What the first pass over a batch showed.

    Attributes:
        epoch: From 0.
        ids: ``[B]`` sample ids.
        logits: ``[b, C]`` of each microbatch.
        features: ``[b, F]`` of each, what entered the head, averaged over an image's positions.
        losses: The training loss of each.
        second: ``[b, C]`` logits of the second pass, where there was one.
    """

    epoch: int
    ids: Tensor
    logits: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    second: list[Tensor] = field(default_factory=list)

    def microbatches(self) -> list[tuple[Tensor, Tensor, float]]:
        """Ids, logits and training loss of each."""
        ids = self.ids.split([len(logits) for logits in self.logits])
        return list(zip(ids, self.logits, self.losses, strict=True))


class Account(Callback):
    """Writes down every forward pass, and which samples the ledger's scores call for."""

    def __init__(self, agent: DataAgent, head: str) -> None:
        self.agent, self.head = agent, head
        self.batches: list[Batch] = []
        self._passes = 0
        self._entered = torch.zeros(0)
        self.called_for: list[set[int]] = []

    def fit_start(self, state: Any, logger: Any) -> None:
        def keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0].detach().clone()
            self._entered = x.mean((2, 3)) if x.dim() == 4 else x

        state.model.get_submodule(self.head).register_forward_pre_hook(keep)

    def batch_start(self, state: Any, logger: Any) -> None:
        ids = state.train_dataloader.sample_ids.clone()
        self.batches.append(Batch(int(state.timestamp.epoch), ids))
        self._passes = 0

    def before_train_batch(self, state: Any, logger: Any) -> None:
        self._passes += 1

    def after_forward(self, state: Any, logger: Any) -> None:
        assert state.model.training
        outputs, batch = state.outputs, self.batches[-1]
        logits = (outputs if isinstance(outputs, Tensor) else outputs.logits).detach().clone()
        if self._passes == 1:
            batch.logits.append(logits)
            batch.features.append(self._entered)
        else:
            batch.second.append(logits)

    def before_backward(self, state: Any, logger: Any) -> None:
        if self._passes == 1:
            self.batches[-1].losses.append(float(state.loss))

    def epoch_end(self, state: Any, logger: Any) -> None:
        epoch, agent = int(state.timestamp.epoch), self.agent
        chosen = agent.selector.select(agent.ledger, HALF, np.random.default_rng([0, epoch]))
        self.called_for.append(set(chosen.ids.tolist()))

    def served(self, epoch: int) -> list[int]:
        """The ids of an epoch, in order."""
        return [i for batch in self.batches if batch.epoch == epoch for i in batch.ids.tolist()]


@dataclass
class Outcome:
    """A run that ended: its agent, the account, and what the agent's reader read of each batch."""

    agent: DataAgent
    account: Account
    read: list[tuple[Signals, Tensor | None]]
    model: nn.Module


def run(
    companions: Sequence[Algorithm],
    *,
    model: ComposerModel | None = None,
    loader: DataLoader | None = None,
    head: str = "module.head",
    agent_first: bool = True,
    callbacks: Sequence[Callback] = (),
    agent: dict[str, Any] | None = None,
    max_duration: str = "2ep",
    **trainer: Any,
) -> Outcome:
    """Train for two epochs, the second of them pruned to half.

    Args:
        companions: The other algorithms.
        model: Default: :func:`cnn`.
        loader: Default: :func:`image_loader`.
        head: Dotted path of the module whose input the features should be.
        agent_first: Whether DataAgent is listed before the others, or after them.
        callbacks: More of them.
        agent: More arguments of DataAgent.
        max_duration: Two epochs; they have 5 and 3 batches.
        **trainer: More arguments of the Trainer.
    """
    # However little it learns in two epochs, the agent is what ranks.
    followed = {"name": "data_agent", "min_fit": -1.0}
    data_agent = DataAgent(
        **{
            "ratio": 0.5,
            "state": "features",
            "update_interval": 2,
            "selector": followed,
            **(agent or {}),
        }
    )
    account = Account(data_agent, head)
    model = model or cnn()
    read: list[tuple[Signals, Tensor | None]] = []
    end_pass = BatchReader.end_pass

    def remember(reader: BatchReader, size: int) -> Any:
        result = end_pass(reader, size)
        read.extend([] if result is None else [result])
        return result

    built = Trainer(
        model=model,
        train_dataloader=loader or image_loader(),
        algorithms=[data_agent, *companions] if agent_first else [*companions, data_agent],
        callbacks=[account, *callbacks],
        optimizers=torch.optim.Adam(model.parameters(), lr=3e-3),
        max_duration=max_duration,
        device="cpu",
        progress_bar=False,
        seed=7,
        **trainer,
    )
    with patch.object(BatchReader, "end_pass", remember):
        try:
            built.fit()
        finally:
            built.close()
    return Outcome(data_agent, account, read, built.state.model)


def signals_of(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The formulas of the method card, written down once more."""
    p = logits.double().softmax(1)
    targets = labels if labels.dim() == 1 else labels.double()
    return {
        "loss": F.cross_entropy(logits.double(), targets, reduction="none"),
        "entropy": -(p * p.log()).sum(1) / np.log(logits.shape[1]),
        "max_prob": p.amax(1),
    }
