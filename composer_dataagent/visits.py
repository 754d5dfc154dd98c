# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What batches showed of their samples, kept on the device until the agent learns from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Classes are counted: a label that is a hash or a time would take all memory.
MAX_LABEL = 2**24
# Rounding, also of 16-bit numbers, is no error.
TOLERANCE = 0.01
_INT32 = (-(2**31), 2**31 - 1)


@dataclass(frozen=True)
class Visits:
    """One row for each sample of a batch, or of several: ``[B]`` each.

    Attributes:
        ids (Tensor): int64 sample ids, on the host.
        step (Tensor): int64 training step, on the host.
        progress (Tensor): float32 share of training done, on the host.
        before (Tensor): float32 running agreement before this visit, on the host.
        loss (Tensor): float32, on the model's device, as all that follow.
        entropy (Tensor): float32.
        max_prob (Tensor): float32.
        label (Tensor): int64, -1 where unknown.
        predicted (Tensor): int64 class, -1 where unknown.
        nonfinite (Tensor): bool, whether the visit said nothing, see ``Signals``.
        features (Tensor): ``[B, F]`` float32; F is 0 where the agent does not look at them.
    """

    ids: Tensor
    step: Tensor
    progress: Tensor
    before: Tensor
    loss: Tensor
    entropy: Tensor
    max_prob: Tensor
    label: Tensor
    predicted: Tensor
    nonfinite: Tensor
    features: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def cat(cls, parts: Sequence[Visits]) -> Visits:
        """Join batches, in order.

        Args:
            parts (Sequence[Visits]): At least one.
        """
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def or_else(self, loss: Tensor, entropy: Tensor, max_prob: Tensor) -> Visits:
        """The same, but what an earlier visit said where this one was not finite.

        An overflow says that a step went wrong, nothing about the samples in it: what is known of
        them still holds.

        Args:
            loss (Tensor): ``[B]`` float32, finite.
            entropy (Tensor): ``[B]`` float32, finite.
            max_prob (Tensor): ``[B]`` float32, finite.
        """
        return replace(
            self,
            loss=torch.where(self.nonfinite, loss, self.loss),
            entropy=torch.where(self.nonfinite, entropy, self.entropy),
            max_prob=torch.where(self.nonfinite, max_prob, self.max_prob),
        )

    def on_host(self) -> dict[str, NDArray]:
        """All columns but the features, as arrays."""
        loss, entropy, max_prob = (
            torch.stack([self.loss, self.entropy, self.max_prob]).cpu().numpy()
        )
        # The host waits once for both.
        classes = torch.stack([self.label, self.predicted]).cpu().numpy()
        label, predicted = classes.clip(*_INT32).astype(np.int32)
        return {
            "ids": self.ids.numpy(),
            "step": self.step.numpy(),
            "loss": loss,
            "entropy": entropy,
            "max_prob": max_prob,
            "nonfinite": self.nonfinite.cpu().numpy(),
            "label": label,
            "predicted": predicted,
        }


def require_ranges(columns: Mapping[str, NDArray]) -> None:
    """Refuse what a ``signals`` function must not say of samples.

    Args:
        columns (Mapping[str, NDArray]): What :meth:`Visits.on_host` gives.

    Raises:
        ValueError: Entropy or ``max_prob`` outside of [0, 1], or a label (or a prediction) that is
            no class.
    """
    for name, why in {
        "entropy": "divide it by its largest value (for C classes, log C)",
        "max_prob": "it is a probability",
    }.items():
        column = columns[name]
        outside = ~((column >= -TOLERANCE) & (column <= 1 + TOLERANCE))
        if outside.any():
            raise ValueError(
                f"DataAgent: signals must have {name} in [0, 1], but sample "
                f"{columns['ids'][outside][0]} has {column[outside][0]:.6g}: {why}"
            )
    for name in ("label", "predicted"):
        column = columns[name]
        outside = (column < -1) | (column > MAX_LABEL)
        if outside.any():
            raise ValueError(
                f"DataAgent: signals must have as {name} a class, 0 to at most {MAX_LABEL:,}, or "
                f"-1 where there is none, but sample {columns['ids'][outside][0]} has "
                f"{column[outside][0]}: give -1, or leave {name} out"
            )


class VisitBuffer:
    """Collects :class:`Visits`, so that the host waits for the device once per update only."""

    def __init__(self) -> None:
        self._batches: list[Visits] = []

    def append(self, visits: Visits) -> None:
        """Remember a batch."""
        self._batches.append(visits)

    def peek(self) -> Visits | None:
        """All that was remembered, None if nothing was."""
        return Visits.cat(self._batches) if self._batches else None

    def take(self) -> Visits | None:
        """As :meth:`peek`, and forget it."""
        visits = self.peek()
        self._batches = []
        return visits

    def state_dict(self) -> list[dict[str, Tensor]]:
        """The remembered batches, on the host, for a checkpoint between two updates."""
        return [
            {field.name: getattr(batch, field.name).cpu() for field in fields(batch)}
            for batch in self._batches
        ]

    def load_state_dict(
        self,
        of_ranks: Sequence[Sequence[dict[str, Tensor]]],
        rank: int,
        ranks: int,
        device: torch.device | str,
    ) -> None:
        """Restore what :meth:`state_dict` gave.

        Args:
            of_ranks (Sequence): What it gave on each rank.
            rank (int): Of this process.
            ranks (int): How many there are now. If there are others than before, the rows of each
                batch are dealt to them anew.
            device (torch.device | str): The model's.
        """
        self._batches = []
        if len(of_ranks) == ranks:
            parts = of_ranks[rank]
        else:
            parts = [
                {
                    name: torch.cat([part[name] for part in batch]).tensor_split(ranks)[rank]
                    for name in batch[0]
                }
                for batch in zip(*of_ranks, strict=True)
            ]
        host: Any = ("ids", "step", "progress", "before")
        for part in parts:
            columns = {n: t.cpu() if n in host else t.to(device) for n, t in part.items()}
            self._batches.append(Visits(**columns))
