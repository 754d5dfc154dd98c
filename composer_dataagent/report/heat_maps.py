# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is chosen, by epoch, as heat maps: of actions, of classes, of shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from composer_dataagent.report.picture import (
    Picture,
    by_epoch,
    column_of,
    epoch_axis,
    legend_above,
    marker_of,
)
from composer_dataagent.report.run import Run
from composer_dataagent.report.svg import PALETTE, RAMP, make_axes, style
from composer_dataagent.report.wording import UNKNOWN, number, percent, short

# Highest picture, in inches, and the most rows that have their name: else every second, third ...
# has. Classes each have a name of their own, of numbers some are enough.
CLASS_SIZE = 4.4, 25
SHARD_SIZE = 3.4, 14
NAME_LENGTH = 18
# A table of more is no help: rows and epochs between are left out, the first and last are there.
TABLE_ROWS, TABLE_EPOCHS = 50, 12


def draw_actions(run: Run) -> Picture | None:
    """Distribution of the actions by epoch: heat map of the histogram, mean and deviation."""
    histograms = [row.get("action_histogram") or [] for row in run.rows]
    bins = max(map(len, histograms), default=0)
    if bins == 0:
        return None
    grid = _epoch_grid(run, bins)
    for row, histogram in zip(run.rows, histograms, strict=True):
        counts = np.array([number(value) for value in histogram])
        if len(counts) == bins and np.nansum(counts) > 0:
            grid[:, row["epoch"] - run.rows[0]["epoch"]] = counts / np.nansum(counts)
    if np.isnan(grid).all():  # stopped before the policy did anything
        return None
    mean, std = column_of(run.rows, "action_mean"), column_of(run.rows, "action_std")
    with style():
        figure, (axes,) = make_axes()
        _heat_map(figure, axes, run, grid, (0.0, 1.0), "share of samples")
        color = PALETTE[3]
        axes.plot(*by_epoch(run, mean), color=color, label="mean", marker=marker_of(mean))
        for sign, label in ((-1, "mean ± deviation"), (1, None)):
            axes.plot(*by_epoch(run, mean + sign * std), ":", color=color, label=label, lw=1.2)
        axes.set_ylim(0, 1)
        axes.set_ylabel("action")
        legend_above(axes)
    return Picture(
        "What the policy does",
        "The action is the weight between 0 and 1 that the policy gives a sample. A policy that "
        "tells samples apart spreads over the range.",
        figure,
        f"Histogram of the policy's actions by {run.step}",
    )


def draw_classes(run: Run) -> Picture | None:
    """Share of each class that is selected, by epoch."""
    # A round chooses from a part of the samples, whose classes are not known: only of the chosen.
    if run.step == "round":
        return None
    keys = {key for row in run.rows for key in row.get("class_total") or {} if key.isdecimal()}
    if not keys:
        return None
    names = [str(label) for label in range(1 + max(map(int, keys)))]
    return _draw_shares(
        run,
        "class",
        names,
        lambda label: short(run.class_name(int(label)), NAME_LENGTH),
        CLASS_SIZE,
        title="Who gets selected",
        caption="Share of each class's samples that an epoch trains on.",
        label="Share of each class that is selected, by epoch",
    )


def draw_shards(run: Run) -> Picture | None:
    """Share of each shard, or group of shards, that is selected, by epoch (or round)."""
    totals = [row.get("shard_total") or {} for row in run.rows]
    names = list(max(totals, key=len, default={}))  # in the order of the data
    if not names:
        return None
    in_groups = any("-" in name for name in names)
    of = "group of neighbouring shards" if in_groups else "shard"
    what = "samples that a round could choose from" if run.step == "round" else "samples"
    return _draw_shares(
        run,
        "shard",
        names,
        lambda name: short(name.replace("-", "\N{EN DASH}"), NAME_LENGTH),
        SHARD_SIZE,
        title="Which shards are read",
        caption=f"Share of each {of}'s {what} that the {run.step} trains on. Of one with 0 %, "
        "nothing has to be fetched.",
        label=f"Share of each {of} that is selected, by {run.step}",
    )


def _draw_shares(
    run: Run,
    of: str,
    names: Sequence[str],
    written: Callable[[str], str],
    size: tuple[float, int],
    *,
    title: str,
    caption: str,
    label: str,
) -> Picture | None:
    """What of ``{of}_total`` is in ``{of}_selected``, a row a name; None if it is never known."""
    grid = _epoch_grid(run, len(names))
    place = {name: i for i, name in enumerate(names)}
    for row in run.rows:
        total, selected = row.get(f"{of}_total") or {}, row.get(f"{of}_selected") or {}
        for name in total.keys() & place.keys():
            if number(total[name]) > 0:
                share = number(selected.get(name)) / number(total[name])
                grid[place[name], row["epoch"] - run.rows[0]["epoch"]] = share
    if np.isnan(grid).all():
        return None
    texts = [written(name) for name in names]
    with style():
        highest, most = size
        figure, (axes,) = make_axes(height=min(1.3 + 0.17 * len(names), highest))
        _heat_map(figure, axes, run, grid, (len(names) - 0.5, -0.5), "selected", top=1.0)
        ticks = range(0, len(names), 1 + (len(names) - 1) // most)
        axes.set_yticks(ticks, [texts[i] for i in ticks], parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.set_ylabel("" if of == "class" else of)
        axes.grid(False)
    return Picture(title, caption, figure, label, table=_table(run, of, texts, grid))


def _table(
    run: Run, of: str, texts: Sequence[str], grid: NDArray[np.float64]
) -> list[dict[str, str]]:
    """The shares as text, of some epochs and rows where they are many."""
    rows, columns = _some(grid.shape[0], TABLE_ROWS), _some(grid.shape[1], TABLE_EPOCHS)
    headings = {j: f"{run.step} {run.rows[0]['epoch'] + j}" for j in columns}
    shares = {i: {headings[j]: percent(float(grid[i, j]), 0) for j in columns} for i in rows}
    return [{of.capitalize(): texts[i] or UNKNOWN} | shares[i] for i in rows]


def _some(size: int, most: int) -> list[int]:
    """At most so many of the first ``size`` numbers, evenly, the first and the last among them."""
    return [int(i) for i in np.linspace(0, size - 1, min(size, most)).round()]


def _epoch_grid(run: Run, height: int) -> NDArray[np.float64]:
    """NaN for every epoch from the first to the last, whether it has a row or not."""
    width = 1 + run.rows[-1]["epoch"] - run.rows[0]["epoch"]
    return np.full((height, width), np.nan)


def _heat_map(
    figure: Figure,
    axes: Axes,
    run: Run,
    grid: NDArray,
    ends: tuple[float, float],
    label: str,
    top: float | None = None,
) -> None:
    """``grid [values, epochs]`` as colour; ``ends`` are the values at its bottom and top edge."""
    first = run.rows[0]["epoch"] - 0.5
    top = max(float(np.nanmax(grid)), 1e-9) if top is None else top
    extent = (first, first + grid.shape[1], *ends)
    image = axes.imshow(
        grid,
        cmap=RAMP,
        vmin=0,
        vmax=top,
        extent=extent,
        aspect="auto",
        interpolation="none",
        origin="lower" if ends[1] > ends[0] else "upper",
    )
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=11 * figure.get_figheight())
    assert bar.solids is not None
    bar.solids.set_rasterized(True)  # one picture: translucent neighbours would show their seams
    bar.outline.set_visible(False)
    bar.set_label(label)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    bar.ax.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(False)
    epoch_axis(axes, run)
