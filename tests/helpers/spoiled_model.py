# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A digits classifier that breaks where it is told to, and goes on learning from all the rest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from composer.models import ComposerClassifier
from digits_run import CLASSES
from torch import Tensor, nn
from torch.nn import functional as F

# Says of a training batch [B, 64] and its number, from 0, which rows break.
Where = Callable[[Tensor, int], Tensor]


def inky(x: Tensor, batch: int) -> Tensor:
    """Some samples, always the same: those with most ink, about a tenth of all."""
    del batch
    return x.mean(dim=-1) > 0.34


def in_batch(*numbers: int) -> Where:
    """All samples of some batches."""
    return lambda x, batch: torch.full((len(x),), batch in numbers)


class Spoil(nn.Module):
    """Puts ``value`` into the rows that a forward pass of the whole net has marked."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        self.rows: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.rows is None else x.masked_fill(self.rows[:, None], self.value)


class SpoiledNet(nn.Module):
    """Flatten, linear, ReLU, (features), linear, (logits): each of the two can be spoiled.

    A head whose features are spoiled takes the finite ones only, so that the logits are sound and
    the features alone are not.
    """

    def __init__(self, where: Where, value: float, features: bool, classes: int = CLASSES) -> None:
        super().__init__()
        spoil = Spoil(value)
        self.where, self.spoil = where, [spoil]
        self.batches = 0
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU())
        self.after_body = spoil if features else nn.Identity()
        self.head = nn.Sequential(NanToZero(), nn.Linear(24, classes))
        self.after_head = nn.Identity() if features else spoil

    def forward(self, x: Tensor) -> Tensor:
        (spoil,) = self.spoil
        spoil.rows = self.where(x, self.batches) if self.training else None
        self.batches += self.training
        return self.after_head(self.head(self.after_body(self.body(x))))


class NanToZero(nn.Module):
    """A model that is robust by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x.nan_to_num(0.0, 0.0, 0.0)


def loss_of_finite_rows(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy over the rows that are finite, 0 if there is none."""
    finite = logits.isfinite().all(dim=1)
    losses = F.cross_entropy(torch.where(finite[:, None], logits, 0.0), targets, reduction="none")
    return (losses * finite).sum() / finite.sum().clamp(min=1)


def spoiled_model(
    where: Where, *, value: float = float("nan"), features: bool = False
) -> ComposerClassifier:
    """The model, always with the same weights.

    Args:
        where (Where): Which rows of which training batches break.
        value (float): What they have instead.
        features (bool): Whether the features break, and not the logits.
    """
    torch.manual_seed(3)
    net = SpoiledNet(where, value, features)
    return ComposerClassifier(net, num_classes=CLASSES, loss_fn=loss_of_finite_rows)
