# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Results as a picture: every method against random selection, condition by condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from comparison.measures import measure_of
from comparison.table import by_selector, difference_to, groups_of, with_mean

# Told apart by colour-blind readers (Okabe and Ito); ours is drawn on top.
_COLORS = {
    "full": "#999999",
    "short": "#000000",
    "infobatch": "#56b4e9",
    "loss": "#e69f00",
    "entropy": "#009e73",
    "entropy_8": "#005f45",
    "reward": "#cc79a7",
    "ucb": "#f0e442",
    "paper": "#0072b2",
    "data_agent": "#d55e00",
    "data_agent_unguarded": "#8c1b1b",
}


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write an SVG: a panel for each source and ratio.

    Args:
        rows (Sequence[Mapping[str, Any]]): Of a results file.
        path (Path): Where to.
    """
    panels = [(source, ratio, with_mean(own)) for source, ratio, own in groups_of(rows)]
    figure = Figure(figsize=(9, 3.6 * len(panels)), layout="constrained")
    for place, (source, ratio, conditions) in enumerate(panels, 1):
        axes = figure.add_subplot(len(panels), 1, place)
        there = {name for own in conditions.values() for name in by_selector(own)}
        methods = [name for name in _COLORS if name in there]
        axes.axhline(0, color="#666666", linewidth=0.8)
        for at, name in enumerate(methods):
            offset = (at - (len(methods) - 1) / 2) * 0.8 / max(len(methods), 1)
            places, means, errors = [], [], []
            for x, own in enumerate(conditions.values()):
                found = difference_to(own, name, "random")
                if found is not None:
                    places.append(x + offset)
                    means.append(found.mean)
                    errors.append((found.mean - found.low, found.high - found.mean))
            if places:
                axes.errorbar(
                    places,
                    means,
                    yerr=list(zip(*errors, strict=True)),
                    fmt="o",
                    markersize=6 if name == "data_agent" else 4,
                    capsize=2,
                    linewidth=1,
                    color=_COLORS[name],
                    label=name,
                )
        measure = measure_of(row for own in conditions.values() for row in own)
        axes.set_title(
            f"{source}, ratio {ratio:g}: {measure.name} against random selection, in "
            f"{measure.unit}; {measure.sign}"
        )
        axes.set_xticks(range(len(conditions)), list(conditions))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", linewidth=0.4)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    # Without a date or random names, so that the same results make the same file.
    with matplotlib.rc_context({"svg.hashsalt": "compare"}):
        figure.savefig(path, metadata={"Date": None})
