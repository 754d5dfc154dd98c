# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""An epoch of the trainer in rounds: each is an epoch of the data, with its own selection."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, eq=False)
class Rounds:
    """How a loader serves one epoch of the trainer.

    A new object for each round: as long as a loader has the one with which it began a round, that
    round is the epoch's last.

    Attributes:
        batches (int): How many batches all rounds of the epoch have.
    """

    batches: int


def batches_of(samples: int, batch_size: int, drop_last: bool) -> int:
    """Into how many batches a rank's samples are cut."""
    return samples // batch_size if drop_last else ceil(samples / batch_size)
