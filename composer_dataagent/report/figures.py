# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The pictures of a page: each function draws one, or gives None where there is no data for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from composer_dataagent.report import wording
from composer_dataagent.report.run import Run
from composer_dataagent.report.summary import costs, group_seeds, main_metric
from composer_dataagent.report.svg import PALETTE, RAMP, make_axes, style, to_svg
from composer_dataagent.report.wording import count, is_accuracy, number, percent, short

# Epoch (or round) to what it cost so far, in samples, and the value of a metric.
Curve = dict[int, tuple[float, float]]
# More class names than this cannot be read: every second, third ... is written.
CLASS_TICKS = 25
PPO_PANELS = {
    "approx_kl": "KL (how far the policy moved)",
    "clip_fraction": "Clip fraction",
    "explained_variance": "Explained variance",
    "entropy": "Entropy of the actions",
}


@dataclass(frozen=True)
class Picture:
    """A drawing for the page.

    Attributes:
        title (str): Heading.
        caption (str): How to read it, in a sentence or two.
        svg (Markup): The ``<svg>`` element.
        wide (bool): Whether it takes the page's whole width.
    """

    title: str
    caption: str
    svg: Markup
    wide: bool = False


def draw_metric(groups: Mapping[str, Sequence[Run]], name: str) -> Picture | None:
    """The main metric against its cost: a line a group, thin ones for its seeds."""
    runs = [run for group in groups.values() for run in group]
    metric = main_metric(runs)
    if metric is None:
        return None
    better = wording.better(metric)
    looked = any(number(row.get("looked")) > 0 for run in runs for row in run.rows)
    cost = "samples trained on" + looked * ", and a third of those looked at"
    with style():
        # Where names would cover the lines they stand below.
        below = max(map(len, groups)) > 30 or len(groups) > 6
        figure, (axes,) = make_axes(height=3.1 + 0.2 * len(groups) * below)
        values = []
        # The agent first, so that it has the same colour in every page.
        ordered = sorted(groups.items(), key=lambda item: not item[0].startswith("data_agent"))
        for position, (label, group) in enumerate(ordered):
            curves = [
                _mean_curve([_metric_curve(run, metric) for run in seed])
                for seed in group_seeds(group)
            ]
            curve = _points(_mean_curve(curves))
            if not len(curve):
                continue
            values.append(curve[:, 1])
            color = PALETTE[position % len(PALETTE)]
            if len(curves) > 1:
                for seed in curves:
                    axes.plot(*_points(seed).T, color=color, alpha=0.35, linewidth=0.8)
            line = "-" if position < len(PALETTE) else "--"
            axes.plot(*curve.T, line, color=color, label=short(label, 60), marker=_marker(curve))
            axes.plot(*curve[-1], "o", color=color, markersize=6)
        if not values:
            return None
        cropped = _crop(axes, values, better)
        axes.set_xlabel(cost)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _thousands(value)))
        if is_accuracy(metric):
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
        axes.set_ylabel(wording.metric_name(metric), parse_math=False)
        legend = (
            figure.legend(loc="outside lower left")
            if below
            else axes.legend(loc="lower right" if better == "higher" else "best")
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
        caption = "Further left is cheaper" + (f", {better} is better." if better else ".")
        if any(len(group_seeds(group)) > 1 for group in groups.values()):
            caption += " Thick: mean over seeds. Thin: each seed."
        if cropped:
            caption += f" The beginning lies {cropped} the picture."
        svg = to_svg(figure, name, f"{metric} against {cost}, by selector")
    return Picture(f"{wording.metric_name(metric)} against cost", caption, svg, wide=True)


def draw_rewards(run: Run, name: str) -> Picture | None:
    """Difficulty, uncertainty and the weight between them, by epoch."""
    lines = {
        "difficulty": "difficulty",
        "uncertainty": "uncertainty",
        "reward_weight": "weight",
    }
    columns = {label: _column(run.rows, key) for key, label in lines.items()}
    if not any(np.isfinite(column).any() for column in columns.values()):
        return None
    with style():
        figure, (axes,) = make_axes()
        for (label, column), color, line in zip(
            columns.items(), PALETTE, ("-", "-", "--"), strict=False
        ):
            axes.plot(
                *_by_epoch(run, column), line, color=color, label=label, marker=_marker(column)
            )
        axes.set_ylim(-0.03, 1.03)
        _epoch_axis(axes, run)
        _legend_above(axes)
        svg = to_svg(figure, name, f"Difficulty, uncertainty and their weight by {run.step}")
    return Picture(
        "The two rewards",
        "Means over the samples trained on: difficulty from the loss, uncertainty from the "
        "entropy. The weight of difficulty against uncertainty follows from their variances.",
        svg,
    )


def draw_actions(run: Run, name: str) -> Picture | None:
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
    mean, std = _column(run.rows, "action_mean"), _column(run.rows, "action_std")
    with style():
        figure, (axes,) = make_axes()
        _heat_map(figure, axes, run, grid, (0.0, 1.0), "share of samples")
        color = PALETTE[3]
        axes.plot(*_by_epoch(run, mean), color=color, label="mean", marker=_marker(mean))
        for sign, label in ((-1, "mean ± deviation"), (1, None)):
            axes.plot(*_by_epoch(run, mean + sign * std), ":", color=color, label=label, lw=1.2)
        axes.set_ylim(0, 1)
        axes.set_ylabel("action")
        _legend_above(axes)
        svg = to_svg(figure, name, f"Histogram of the policy's actions by {run.step}")
    return Picture(
        "What the policy does",
        "The action is the weight between 0 and 1 that the policy gives a sample. A policy that "
        "tells samples apart spreads over the range.",
        svg,
    )


def draw_classes(run: Run, name: str) -> Picture | None:
    """Share of each class that is selected, by epoch."""
    # A round chooses from a part of the samples, whose classes are not known: only of the chosen.
    if run.step == "round":
        return None
    totals = [row.get("class_total") or {} for row in run.rows]
    keys = {key for total in totals for key in total if key.isdecimal()}
    if not keys:
        return None
    classes = 1 + max(int(key) for key in keys)
    grid = _epoch_grid(run, classes)
    for row, total in zip(run.rows, totals, strict=True):
        selected = row.get("class_selected") or {}
        for key in total.keys() & keys:
            if number(total[key]) > 0:
                share = number(selected.get(key)) / number(total[key])
                grid[int(key), row["epoch"] - run.rows[0]["epoch"]] = share
    with style():
        figure, (axes,) = make_axes(height=min(1.3 + 0.17 * classes, 4.4))
        _heat_map(figure, axes, run, grid, (classes - 0.5, -0.5), "selected", top=1.0)
        ticks = range(0, classes, 1 + (classes - 1) // CLASS_TICKS)
        axes.set_yticks(ticks, [short(run.class_name(c), 18) for c in ticks], parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.grid(False)
        svg = to_svg(figure, name, "Share of each class that is selected, by epoch")
    return Picture(
        "Who gets selected",
        "Share of each class's samples that an epoch trains on.",
        svg,
    )


def draw_coverage(run: Run, name: str) -> Picture | None:
    """How often each sample was trained on."""
    visits = run.ledger.get("visits")
    if visits is None or len(visits) == 0 or visits.min() < 0:
        return None
    never = int((visits == 0).sum())
    most = int(visits.max())
    width = 1 + most // 40  # long trainings: several numbers of visits a bar
    edges = np.arange(1, most + width + 1, width) - 0.5
    with style():
        figure, (axes,) = make_axes()
        counts, _ = np.histogram(visits, edges)
        axes.bar(edges[:-1] + width / 2, counts, 0.82 * width, color=PALETTE[0])
        axes.bar(0.5 - width / 2, never, 0.82 * width, color=PALETTE[3])
        axes.set_xlim(0.4 - width, edges[-1] + 0.1)
        axes.set_xlabel("epochs in which a sample was seen")
        axes.set_ylabel("samples")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _thousands(value)))
        axes.grid(False, axis="x")
        svg = to_svg(figure, name, f"Histogram of visits; {count(never)} samples never seen")
    return Picture(
        "Coverage",
        f"Never seen: {count(never)} of {count(len(visits))} samples "
        f"({percent(never / len(visits))}).",
        svg,
    )


def draw_ppo(run: Run, name: str) -> Picture | None:
    """Whether the agent's own training is healthy."""
    ppo = [row.get("ppo") or {} for row in run.rows]
    panels = {title: _column(ppo, key) for key, title in PPO_PANELS.items()}
    panels = {title: column for title, column in panels.items() if np.isfinite(column).any()}
    if not panels:
        return None
    with style():
        figure, axes = make_axes((len(panels) + 1) // 2, min(len(panels), 2), sharex=True)
        for panel, (title, column) in zip(axes, panels.items(), strict=False):
            panel.plot(*_by_epoch(run, column), color=PALETTE[0], marker=_marker(column))
            panel.set_title(title, fontsize=8.5)
            panel.tick_params(labelsize=8)
            panel.yaxis.set_major_locator(MaxNLocator(3))
        for panel in axes[len(panels) :]:
            panel.remove()
        for panel in axes[max(len(panels) - 2, 0) : len(panels)]:
            _epoch_axis(panel, run)
        svg = to_svg(figure, name, f"PPO diagnostics by {run.step}")
    return Picture(
        "Health of the agent (PPO)",
        "KL above 0.05 means that the policy moves too fast; explained variance near 1 that the "
        "critic foresees rewards; entropy falls as the policy makes up its mind.",
        svg,
    )


def draw_schedule(run: Run, name: str) -> Picture | None:
    """Ratio and learning rate by epoch."""
    panels = {
        "Ratio (share of samples)": _column(run.rows, "ratio"),
        f"Learning rate at the {run.step}'s end": _column(run.rows, "learning_rate"),
    }
    panels = {title: column for title, column in panels.items() if np.isfinite(column).any()}
    if not panels:
        return None
    with style():
        figure, axes = make_axes(len(panels), sharex=True)
        for panel, (title, column), color in zip(axes, panels.items(), PALETTE, strict=False):
            x, y = _by_epoch(run, column)
            steps = "steps-mid" if title.startswith("Ratio") else "default"
            panel.plot(x, y, drawstyle=steps, color=color, marker=_marker(column))
            panel.set_title(title, fontsize=8.5)
            panel.set_ylim(bottom=0, top=1.08 * max(float(y.max()), 1e-12))
            panel.yaxis.set_major_locator(MaxNLocator(4))
        _epoch_axis(axes[-1], run)
        svg = to_svg(figure, name, f"Ratio and learning rate by {run.step}")
    return Picture("Schedule", "How much of the data, and how large the steps.", svg)


def draw_fetched(run: Run, name: str) -> Picture | None:
    """Bytes and requests by epoch, where data were fetched from a remote."""
    size, requests = (_column(run.rows, f"egress_{key}") for key in ("bytes", "requests"))
    if not np.isfinite(size).any():
        return None
    divisor, unit = (1e9, "GB") if np.nanmax(size) >= 1e9 else (1e6, "MB")
    panels = {f"Data fetched ({unit})": size / divisor, "Read requests": requests}
    panels = {title: column for title, column in panels.items() if np.isfinite(column).any()}
    with style():
        figure, axes = make_axes(len(panels), sharex=True)
        for panel, (title, column), color in zip(axes, panels.items(), PALETTE, strict=False):
            x, y = _by_epoch(run, column)
            panel.plot(x, y, drawstyle="steps-mid", color=color, marker=_marker(column))
            panel.set_title(title, fontsize=8.5)
            panel.set_ylim(bottom=0, top=1.08 * max(float(y.max()), 1e-12))
            panel.yaxis.set_major_locator(MaxNLocator(4))
        _epoch_axis(axes[-1], run)
        svg = to_svg(figure, name, f"Data fetched and read requests by {run.step}")
    return Picture(
        "Data fetched",
        f"What each {run.step} downloaded from the remote store. What is on disk already is not "
        "fetched again.",
        svg,
    )


# In the order of the page.
RUN_PICTURES: tuple[Callable[[Run, str], Picture | None], ...] = (
    draw_rewards,
    draw_actions,
    draw_classes,
    draw_coverage,
    draw_ppo,
    draw_schedule,
    draw_fetched,
)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    return np.array([number(row.get(name)) for row in rows], np.float64)


def _by_epoch(run: Run, column: NDArray) -> tuple[NDArray, NDArray]:
    """Epochs and values where there is one: lines go on over epochs without an update."""
    known = np.isfinite(column)
    return _column(run.rows, "epoch")[known], column[known]


def _metric_curve(run: Run, metric: str) -> Curve:
    """A run's curve, of the rows with an evaluation."""
    curve = {}
    for row, cost in zip(run.rows, costs(run), strict=True):
        point = cost, number((row.get("metrics") or {}).get(metric))
        if np.isfinite(point).all():
            curve[row["epoch"]] = point
    return curve


def _mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean of the curves, for epochs that all non-empty ones reached."""
    curves = [curve for curve in curves if curve]
    if not curves:
        return {}
    epochs = sorted(set.intersection(*map(set, curves)))
    return {
        epoch: tuple(np.mean([curve[epoch] for curve in curves], axis=0).tolist())
        for epoch in epochs
    }


def _points(curve: Curve) -> NDArray[np.float64]:
    """Samples trained on and values of a curve, ``[E, 2]``."""
    return np.array(list(curve.values())).reshape(-1, 2)


def _crop(axes: Axes, curves: Sequence[NDArray], better: str | None) -> str | None:
    """Leave the steep start out of the picture, which would press all differences together.

    Returns:
        str | None: On which side of the picture it lies.
    """
    sign = -1 if better == "lower" else 1
    curves = [sign * curve for curve in curves]
    worst = min(float(curve.min()) for curve in curves)
    late = min(float(curve[len(curve) // 4 :].min()) for curve in curves)
    best = max(float(curve.max()) for curve in curves)
    edge = late - 0.1 * (best - late)
    if best == late or best - worst < 3 * (best - late) or worst >= edge:
        return None
    axes.set_ylim(*sorted([sign * edge, sign * (best + 0.08 * (best - edge))]))
    return "above" if better == "lower" else "below"


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
    _epoch_axis(axes, run)


def _epoch_axis(axes: Axes, run: Run) -> None:
    first, last = run.rows[0]["epoch"], run.rows[-1]["epoch"]
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel(run.step)


def _legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3,
        borderaxespad=0.2,
        columnspacing=1.2,
        handlelength=1.6,
        borderpad=0.1,
    )


def _marker(column: NDArray) -> str:
    return "o" if len(column) <= 30 else ""


def _thousands(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
