# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The numbers of a comparison: runs of the same selector and settings are seeds of one another."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from composer_dataagent.report.run import Run
from composer_dataagent.report.wording import is_accuracy, number

# Runs that differ in one of these are not averaged, even with the same selector.
SETTINGS = ("ratio", "preset", "state", "num_epochs", "num_samples")


def summarise(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row a selector: what was reached and at what cost, as means over seeds.

    Args:
        runs (Sequence[Run]): Any number of runs.

    Returns:
        list[dict[str, Any]]: In the order of :func:`group_runs`, each with

        - ``selector`` (str): the group's label,
        - ``seeds`` (int): number of runs,
        - ``metric`` (str | None): which metric ``accuracy`` is, see :func:`main_metric`,
        - ``accuracy``, ``accuracy_std`` (float | None): mean and sample standard deviation (None
          for one seed) of its value at the last evaluation,
        - ``difference`` (float | None): ``accuracy`` minus that of the first ``full`` row,
        - ``samples`` (float | None): samples trained on,
        - ``share_of_full`` (float | None): the same as a share of as many full epochs,
        - ``seconds`` (float | None): time of training, without evaluation,
        - ``overhead`` (float | None): share of that time that DataAgent took.
    """
    metric = main_metric(runs)
    groups = group_runs(runs)
    rows = [_summarise_group(label, group, metric) for label, group in groups.items()]
    full = [
        row["accuracy"]
        for row, group in zip(rows, groups.values(), strict=True)
        if _selector(group[0]) == "full" and row["accuracy"] is not None
    ]
    for row in rows:
        known = full and row["accuracy"] is not None
        row["difference"] = row["accuracy"] - full[0] if known else None
    return rows


def group_runs(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs that differ in their seed only, by label, in order of first appearance.

    The label is the selector's name; where one selector ran with several settings it names those
    that differ: ``"data_agent, ratio 0.3"``.
    """
    by_settings: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        key = (_selector(run), *(str(run.meta.get(name)) for name in SETTINGS))
        by_settings.setdefault(key, []).append(run)
    groups = {}
    for key, group in by_settings.items():
        variants = [other for other in by_settings if other[0] == key[0]]
        differing = [
            f"{name} {key[i]}"
            for i, name in enumerate(SETTINGS, 1)
            if len({other[i] for other in variants}) > 1
        ]
        groups[", ".join([key[0], *differing])] = group
    return groups


def main_metric(runs: Iterable[Run]) -> str | None:
    """The first metric whose name contains ``Accuracy``, else the first, else None."""
    names = [name for run in runs for row in run.rows for name in row.get("metrics") or {}]
    return next((name for name in names if is_accuracy(name)), names[0] if names else None)


def _selector(run: Run) -> str:
    return str(run.meta.get("selector"))


def _summarise_group(label: str, group: Sequence[Run], metric: str | None) -> dict[str, Any]:
    finals = [_final_metric(run, metric) for run in group]
    accuracies = [final for final in finals if not math.isnan(final)]
    last = [run.rows[-1] for run in group if run.rows]
    seconds = [_total(run, "seconds") for run in group if run.rows]
    agent_seconds = [_total(run, "agent_seconds") for run in group if run.rows]
    return {
        "selector": label,
        "seeds": len(group),
        "metric": metric,
        "accuracy": _mean(accuracies),
        "accuracy_std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "samples": _mean(number(row.get("samples_seen")) for row in last),
        "share_of_full": _mean(number(row.get("share_of_full")) for row in last),
        "seconds": _mean(seconds),
        "overhead": sum(agent_seconds) / sum(seconds) if sum(seconds) > 0 else None,
    }


def _final_metric(run: Run, metric: str | None) -> float:
    evaluated = [row["metrics"] for row in run.rows if row.get("metrics")]
    return number(evaluated[-1].get(metric)) if evaluated else math.nan


def _total(run: Run, name: str) -> float:
    values = (number(row.get(name)) for row in run.rows)
    return sum(value for value in values if not math.isnan(value))


def _mean(values: Iterable[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else None
