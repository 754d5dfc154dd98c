# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A drawing for the page, and what all drawings of a run have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from composer_dataagent.report.run import Run
from composer_dataagent.report.wording import number


@dataclass(frozen=True)
class Picture:
    """A drawing, for a page or a file of its own.

    Attributes:
        title (str): Heading.
        caption (str): How to read it, in a sentence or two.
        figure (Figure): Made inside :func:`~composer_dataagent.report.svg.style`.
        label (str): What it shows, for those who do not see it.
        wide (bool): Whether it takes the page's whole width.
        table (list[dict[str, str]]): Heading to text, a row of the picture each, where numbers say
            what colours do; empty where they would not.
    """

    title: str
    caption: str
    figure: Figure
    label: str
    wide: bool = False
    table: list[dict[str, str]] = field(default_factory=list)


def column_of(rows: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    """One entry of all rows; NaN where it is no number."""
    return np.array([number(row.get(name)) for row in rows], np.float64)


def by_epoch(run: Run, column: NDArray) -> tuple[NDArray, NDArray]:
    """Epochs and values where there is one: lines go on over epochs without an update."""
    known = np.isfinite(column)
    return column_of(run.rows, "epoch")[known], column[known]


def epoch_axis(axes: Axes, run: Run) -> None:
    """The run's epochs (or rounds) below the axes."""
    first, last = run.rows[0]["epoch"], run.rows[-1]["epoch"]
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel(run.step)


def legend_above(axes: Axes) -> None:
    """In a line, where nothing is drawn."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3,
        borderaxespad=0.2,
        columnspacing=1.2,
        handlelength=1.6,
        borderpad=0.1,
    )


def marker_of(column: NDArray) -> str:
    """A dot on each value, unless they are so many that dots would touch."""
    return "o" if len(column) <= 30 else ""
