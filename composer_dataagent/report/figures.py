# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The pictures of a page: each function draws one, or gives None where there is no data for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from composer_dataagent.report import wording
from composer_dataagent.report.heat_maps import draw_actions, draw_classes, draw_shards
from composer_dataagent.report.picture import (
    Picture,
    by_epoch,
    column_of,
    epoch_axis,
    legend_above,
    marker_of,
)
from composer_dataagent.report.run import Run
from composer_dataagent.report.summary import costs, group_seeds, main_metric
from composer_dataagent.report.svg import PALETTE, make_axes, style
from composer_dataagent.report.wording import count, is_accuracy, number, percent, short

# Epoch (or round) to what it cost so far, in samples, and the value of a metric.
Curve = dict[int, tuple[float, float]]
PPO_PANELS = {
    "approx_kl": "KL (how far the policy moved)",
    "clip_fraction": "Clip fraction",
    "explained_variance": "Explained variance",
    "entropy": "Entropy of the actions",
}


def draw_metric(groups: Mapping[str, Sequence[Run]]) -> Picture | None:
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
            axes.plot(*curve.T, line, color=color, label=short(label, 60), marker=marker_of(curve))
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
    return Picture(
        f"{wording.metric_name(metric)} against cost",
        caption,
        figure,
        f"{metric} against {cost}, by selector",
        wide=True,
    )


def draw_rewards(run: Run) -> Picture | None:
    """Difficulty, uncertainty and the weight between them, by epoch."""
    lines = {
        "difficulty": "difficulty",
        "uncertainty": "uncertainty",
        "reward_weight": "weight",
    }
    columns = {label: column_of(run.rows, key) for key, label in lines.items()}
    if not any(np.isfinite(column).any() for column in columns.values()):
        return None
    with style():
        figure, (axes,) = make_axes()
        for (label, column), color, line in zip(
            columns.items(), PALETTE, ("-", "-", "--"), strict=False
        ):
            axes.plot(
                *by_epoch(run, column), line, color=color, label=label, marker=marker_of(column)
            )
        axes.set_ylim(-0.03, 1.03)
        epoch_axis(axes, run)
        legend_above(axes)
    return Picture(
        "The two rewards",
        "Means over the samples trained on: difficulty from the loss, uncertainty from the "
        "entropy. The weight of difficulty against uncertainty follows from their variances.",
        figure,
        f"Difficulty, uncertainty and their weight by {run.step}",
    )


def draw_coverage(run: Run) -> Picture | None:
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
    return Picture(
        "Coverage",
        f"Never seen: {count(never)} of {count(len(visits))} samples "
        f"({percent(never / len(visits))}).",
        figure,
        f"Histogram of visits; {count(never)} samples never seen",
    )


def draw_ppo(run: Run) -> Picture | None:
    """Whether the agent's own training is healthy."""
    ppo = [row.get("ppo") or {} for row in run.rows]
    panels = {title: column_of(ppo, key) for key, title in PPO_PANELS.items()}
    panels = {title: column for title, column in panels.items() if np.isfinite(column).any()}
    if not panels:
        return None
    with style():
        figure, axes = make_axes((len(panels) + 1) // 2, min(len(panels), 2), sharex=True)
        for panel, (title, column) in zip(axes, panels.items(), strict=False):
            panel.plot(*by_epoch(run, column), color=PALETTE[0], marker=marker_of(column))
            panel.set_title(title, fontsize=8.5)
            panel.tick_params(labelsize=8)
            panel.yaxis.set_major_locator(MaxNLocator(3))
        for panel in axes[len(panels) :]:
            panel.remove()
        for panel in axes[max(len(panels) - 2, 0) : len(panels)]:
            epoch_axis(panel, run)
    return Picture(
        "Health of the agent (PPO)",
        "Whether it has learned stands at the top; this is how. KL far above 0.05 all the time "
        "means that the policy moves too fast; explained variance near 1 that the critic foresees "
        "rewards, below 0 that it does not, as is usual on little data; entropy falls as the "
        "policy makes up its mind.",
        figure,
        f"PPO diagnostics by {run.step}",
    )


def draw_schedule(run: Run) -> Picture | None:
    """Ratio and learning rate by epoch."""
    panels = {
        "Ratio (share of samples)": column_of(run.rows, "ratio"),
        f"Learning rate at the {run.step}'s end": column_of(run.rows, "learning_rate"),
    }
    panels = {title: column for title, column in panels.items() if np.isfinite(column).any()}
    if not panels:
        return None
    with style():
        figure, axes = make_axes(len(panels), sharex=True)
        for panel, (title, column), color in zip(axes, panels.items(), PALETTE, strict=False):
            x, y = by_epoch(run, column)
            steps = "steps-mid" if title.startswith("Ratio") else "default"
            panel.plot(x, y, drawstyle=steps, color=color, marker=marker_of(column))
            panel.set_title(title, fontsize=8.5)
            panel.set_ylim(bottom=0, top=1.08 * max(float(y.max()), 1e-12))
            panel.yaxis.set_major_locator(MaxNLocator(4))
        epoch_axis(axes[-1], run)
    return Picture(
        "Schedule",
        "How much of the data, and how large the steps.",
        figure,
        f"Ratio and learning rate by {run.step}",
    )


def draw_fetched(run: Run) -> Picture | None:
    """Bytes and requests by epoch, where data were fetched from a remote."""
    size, requests = (column_of(run.rows, f"egress_{key}") for key in ("bytes", "requests"))
    if not np.isfinite(size).any():
        return None
    divisor, unit = (1e9, "GB") if np.nanmax(size) >= 1e9 else (1e6, "MB")
    panels = {f"Data fetched ({unit})": size / divisor, "Read requests": requests}
    panels = {title: column for title, column in panels.items() if np.isfinite(column).any()}
    with style():
        figure, axes = make_axes(len(panels), sharex=True)
        for panel, (title, column), color in zip(axes, panels.items(), PALETTE, strict=False):
            x, y = by_epoch(run, column)
            panel.plot(x, y, drawstyle="steps-mid", color=color, marker=marker_of(column))
            panel.set_title(title, fontsize=8.5)
            panel.set_ylim(bottom=0, top=1.08 * max(float(y.max()), 1e-12))
            panel.yaxis.set_major_locator(MaxNLocator(4))
        epoch_axis(axes[-1], run)
    return Picture(
        "Data fetched",
        f"What each {run.step} downloaded from the remote store. What is on disk already is not "
        "fetched again.",
        figure,
        f"Data fetched and read requests by {run.step}",
    )


# In the order of the page.
RUN_PICTURES: tuple[Callable[[Run], Picture | None], ...] = (
    draw_rewards,
    draw_actions,
    draw_classes,
    draw_shards,
    draw_coverage,
    draw_ppo,
    draw_schedule,
    draw_fetched,
)


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


def _thousands(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
