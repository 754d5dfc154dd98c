# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a run will download: a table, two pictures, and a page of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from rich.console import Console

from composer_dataagent.report import wording
from composer_dataagent.report.atomic import write_atomically
from composer_dataagent.report.page import render, shown
from composer_dataagent.report.picture import Picture
from composer_dataagent.report.svg import GRID, INK, PALETTE, make_axes, style
from composer_dataagent.report.table import print_cells

TEMPLATE = "plan.html.j2"
TITLE = "What a run will download"
MODE_NAMES = {
    "full": "full data",
    "shards": "selection, whole shards",
    "samples": "selection, ranges of samples",
    "whole_shards": "selection of whole shards",
}
# Other than the one of the same number: lines that lie on one another are still seen.
_LINES = ("-", "--", "-", ":")
SUFFIXES = (".html", ".svg")
# What the page's styles give, for a picture without a page.
_ALONE = (
    f"--grid:{GRID};color:{INK};background:#ffffff;"
    "font-family:system-ui,'Segoe UI',Roboto,sans-serif"
)


def plan_cells(plan: Mapping[str, Any]) -> list[dict[str, str]]:
    """Heading to text, for each mode.

    Args:
        plan (Mapping[str, Any]): From ``recipes.plan.plan``.
    """
    return [
        {
            "Reading": MODE_NAMES[mode],
            "First epoch": wording.size(figures["first_epoch_bytes"]),
            "Later epoch": wording.size(figures["later_epoch_bytes"]),
            "In total": wording.size(figures["bytes"]),
            "Requests": wording.count(figures["requests"]),
            "Cost": wording.dollars(figures["dollars"]),
            "Time": wording.duration(figures["seconds"]),
        }
        for mode, figures in plan["modes"].items()
    ]


def describe(plan: Mapping[str, Any]) -> str:
    """The data and the run, in one sentence."""
    limit = plan["cache_limit"]
    cache = {None: "with room for everything", 0: "without a cache"}.get(
        limit, f"with {wording.size(limit)} of cache"
    )
    nodes = f"{plan['nodes']} nodes, each" if plan["nodes"] > 1 else "one node"
    return (
        f"{wording.count(plan['samples'])} samples, {wording.size(plan['bytes'])} in "
        f"{wording.count(plan['shards'])} shards; {plan['epochs']} epochs at ratio "
        f"{plan['ratio']:g}, of which {min(plan['warmup_epochs'], plan['epochs'])} to warm up; "
        f"{nodes} {cache}."
    )


def print_plan(plan: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the table, and what was assumed.

    Args:
        plan (Mapping[str, Any]): From ``recipes.plan.plan``.
        console (Console | None): Where to. Default: standard output.
    """
    console = console or Console()
    console.print(describe(plan), markup=False, highlight=False, soft_wrap=True)
    console.print()
    print_cells(plan_cells(plan), console)
    console.print()
    for note in plan["notes"]:
        console.print(f"- {note}", markup=False, highlight=False, soft_wrap=True)


def draw_ratios(plan: Mapping[str, Any]) -> Picture:
    """What an epoch fetches, against the ratio."""
    shares = plan["share_by_ratio"]
    with style():
        figure, (axes,) = make_axes(height=3.3)
        axes.axvline(plan["ratio"], color=PALETTE[6], linewidth=1.0)
        _draw_modes(axes, shares["ratio"], {mode: shares[mode] for mode in MODE_NAMES})
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.05 * max(1.0, *(max(shares[mode]) for mode in MODE_NAMES)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.set_xlabel("ratio: share of the samples that are selected")
        axes.set_ylabel("bytes fetched, of all")
        figure.legend(loc="outside lower left", ncols=2)
    return Picture(
        "One epoch",
        "Share of the data set's bytes that an epoch fetches if nothing is there. The grey line is "
        "the run's ratio.",
        figure,
        "Share of the bytes that an epoch fetches, against the ratio",
    )


def draw_epochs(plan: Mapping[str, Any]) -> Picture:
    """What a run has fetched by each epoch's end."""
    by_epoch = {mode: np.cumsum(plan["bytes_by_epoch"][mode]) for mode in MODE_NAMES}
    epochs = np.arange(1, plan["epochs"] + 1)
    with style():
        figure, (axes,) = make_axes(height=3.3)
        _draw_modes(axes, epochs, by_epoch)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: wording.size(value)))
        axes.set_xlabel("epochs done")
        axes.set_ylabel("bytes fetched so far")
        figure.legend(loc="outside lower left", ncols=2)
    return Picture(
        "The run",
        "Bytes that all nodes have fetched by the end of each epoch, with what their caches keep.",
        figure,
        "Bytes that a run has fetched by the end of each epoch",
    )


def check_path(path: str | Path) -> Path:
    """Refuse a file for :func:`write_plan` that has another ending than those it can write.

    Raises:
        ValueError: It has.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} is not accepted; it must end with one of {list(SUFFIXES)}")
    return path


def write_plan(plan: Mapping[str, Any], path: str | Path) -> Path:
    """Write a page, or the picture of ratios alone.

    Args:
        plan (Mapping[str, Any]): From ``recipes.plan.plan``.
        path (str | Path): Ends with ``.html`` or ``.svg``; its folder is made if absent.

    Returns:
        Path: The file.

    Raises:
        ValueError: It has another ending.
        OSError: It cannot be written.
    """
    path = check_path(path)
    if path.suffix == ".svg":
        text = _alone(shown(draw_ratios(plan), "ratios")["svg"])
    else:
        text = render(
            TEMPLATE,
            title=TITLE,
            about=describe(plan),
            table=plan_cells(plan),
            pictures=[shown(draw_ratios(plan), "ratios"), shown(draw_epochs(plan), "epochs")],
            notes=plan["notes"],
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode("utf-8", "replace"))
    return path


def _draw_modes(axes: Axes, x: Any, columns: Mapping[str, Any]) -> None:
    for (mode, column), color, line in zip(columns.items(), PALETTE, _LINES, strict=False):
        marker = "o" if len(column) == 1 else ""
        axes.plot(x, column, line, color=color, label=MODE_NAMES[mode], marker=marker)


def _alone(svg: Markup) -> str:
    return str(svg).replace("<svg ", f'<svg style="{_ALONE}" ', 1)
