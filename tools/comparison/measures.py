# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What runs are compared by: accuracy, or a language model's loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measure:
    """A number of each run.

    Attributes:
        name (str): Of the column in rows.
        reported (str): Part of the name by which Composer reports it.
        title (str): What it is, with its unit.
        unit (str): Of differences.
        scale (float): From the column to the unit.
        digits (int): After the point.
        best (Callable[..., Any]): ``max`` or ``min``.
    """

    name: str
    reported: str
    title: str
    unit: str
    scale: float
    digits: int
    best: Callable[..., Any]

    @property
    def sign(self) -> str:
        """Which differences are good."""
        return f"{'above' if self.best is max else 'below'} zero is better"


ACCURACY = Measure("accuracy", "Accuracy", "Accuracy in %", "points", 100, 2, max)
LOSS = Measure(
    "loss",
    "LanguageCrossEntropy",
    "Held-out cross entropy in nats per token (lower is better)",
    "nats",
    1,
    3,
    min,
)
MEASURES = (ACCURACY, LOSS)


def measure_of(rows: Iterable[Mapping[str, Any]]) -> Measure:
    """The one that rows of a source have.

    Raises:
        StopIteration: There is no row.
    """
    row = next(iter(rows))
    return next(measure for measure in MEASURES if measure.name in row)


def measured(reported: Mapping[str, float]) -> dict[str, float]:
    """The measure's column, from what Composer reported of a run."""
    return {
        measure.name: value
        for measure in MEASURES
        for name, value in reported.items()
        if measure.reported in name
    }
