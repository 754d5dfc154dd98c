# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""How much of the data an epoch trains on."""

from __future__ import annotations

from dataclasses import dataclass

from composer_dataagent.checks import is_number, is_whole


@dataclass(frozen=True)
class RatioSchedule:
    """Full warm-up epochs, then ``ratio``, then a final share of training with full epochs.

    Any callable ``(epoch, progress) -> ratio`` can take its place.

    Args:
        ratio (float): Share of the samples that a pruned epoch keeps, in (0, 1]. Default: ``0.5``.
        warmup_epochs (int): Full epochs at the start. Default: ``1``.
        anneal (float): Share of training at the end with full epochs, in [0, 1). Default: ``0.0``.

    Raises:
        ValueError: An argument is out of range.
    """

    ratio: float = 0.5
    warmup_epochs: int = 1
    anneal: float = 0.0

    def __post_init__(self) -> None:
        if not (is_number(self.ratio) and 0 < self.ratio <= 1):
            raise ValueError(f"ratio={self.ratio!r} is not accepted; it must be in (0, 1]")
        if not (is_whole(self.warmup_epochs) and self.warmup_epochs >= 0):
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs!r} is not accepted; it must be a whole number "
                "of epochs, 0 or more"
            )
        if not (is_number(self.anneal) and 0 <= self.anneal < 1):
            raise ValueError(
                f"anneal={self.anneal!r} is not accepted; it must be a share of training in [0, 1)"
            )

    def __call__(self, epoch: int, progress: float) -> float:
        """Ratio of the epoch that is about to start.

        Args:
            epoch (int): Its number, from 0.
            progress (float): Share of training that is done when it starts, in [0, 1].

        Returns:
            float: In (0, 1].
        """
        # The margin absorbs the rounding of progress = epoch / epochs.
        annealing = self.anneal > 0 and progress >= 1 - self.anneal - 1e-9
        return 1.0 if epoch < self.warmup_epochs or annealing else self.ratio


def size_for(ratio: float, num_samples: int) -> int:
    """Number of samples that ``ratio`` keeps: rounded half up, at least 1."""
    return max(1, int(ratio * num_samples + 0.5))
