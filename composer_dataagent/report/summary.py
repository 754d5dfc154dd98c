# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The numbers of a comparison: runs of the same selector and settings are seeds of one another."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from composer_dataagent.report.run import Run
from composer_dataagent.report.settings import seeds_of, selector_of, settings_of
from composer_dataagent.report.wording import is_accuracy, number

# Of a sample that is only looked at, in samples trained on: a forward pass is about a third of a
# forward and backward pass.
LOOK_COST = 1 / 3
# Runs that differ in more settings than a label can name are told apart by their folders.
MOST_NAMED = 3
# Of longer values, paths say, the end tells more than the beginning.
VALUE_LENGTH = 24


def summarise(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row a selector and its settings: what was reached and at what cost, as means over seeds.

    Args:
        runs (Sequence[Run]): Any number of runs.

    Returns:
        list[dict[str, Any]]: In the order of :func:`group_runs`, each with

        - ``selector`` (str): the group's label,
        - ``seeds`` (int): number of different seeds,
        - ``runs`` (int): number of runs; those of an equal seed count as one, their mean,
        - ``metric`` (str | None): which metric ``accuracy`` is, see :func:`main_metric`,
        - ``accuracy``, ``accuracy_std`` (float | None): mean and sample standard deviation (None
          for one seed) of its value at the last evaluation,
        - ``difference`` (float | None): ``accuracy`` minus that of the ``full`` row whose settings
          are most like this one's, the first of equals,
        - ``samples`` (float | None): samples trained on,
        - ``looked`` (float | None): samples looked at only, to choose among them,
        - ``share_of_full`` (float | None): both (each of the latter as ``LOOK_COST``) as a share of
          the samples in as many full epochs,
        - ``fetched``, ``requests``, ``dollars`` (float | None): bytes that were fetched from a
          remote while training, requests for them, and what the store asks for both; None where
          all data were local,
        - ``seconds`` (float | None): time of training, without evaluation,
        - ``overhead`` (float | None): share of that time that DataAgent took.
    """
    metric = main_metric(runs)
    groups = group_runs(runs)
    rows = [summarise_group(label, group, metric) for label, group in groups.items()]
    settings = [settings_of(group[0]).items() for group in groups.values()]
    full = [
        (row["accuracy"], own)
        for row, own, group in zip(rows, settings, groups.values(), strict=True)
        if selector_of(group[0]) == "full" and row["accuracy"] is not None
    ]
    for row, own in zip(rows, settings, strict=True):
        known = full and row["accuracy"] is not None
        nearest = max(full, key=lambda other: len(own & other[1]))[0] if known else None
        row["difference"] = None if nearest is None else row["accuracy"] - nearest
    return rows


def group_runs(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs that differ in their seeds only, by label, in order of first appearance.

    The label is the selector's name; where one selector ran with several settings it names those
    that differ: ``"data_agent, ratio 0.3"``. Where these are many it names the folder of the
    group's first run: ``"data_agent, run third"``.
    """
    groups: dict[tuple[str, frozenset[tuple[str, str]]], list[Run]] = {}
    for run in runs:
        key = selector_of(run), frozenset(settings_of(run).items())
        groups.setdefault(key, []).append(run)
    labels = {}
    for selector in {selector for selector, _ in groups}:
        keys = [key for key in groups if key[0] == selector]
        differences = _differences([groups[key][0] for key in keys])
        for key, difference in zip(keys, differences, strict=True):
            labels[key] = ", ".join([selector, *difference])
    return {labels[key]: group for key, group in groups.items()}


def group_seeds(group: Iterable[Run]) -> list[list[Run]]:
    """The runs of a group by seed: a run that was made twice tells no more than once."""
    seeds: dict[frozenset[tuple[str, str]], list[Run]] = {}
    for run in group:
        seeds.setdefault(seeds_of(run), []).append(run)
    return list(seeds.values())


def _differences(runs: Sequence[Run]) -> list[list[str]]:
    """For each of several runs, what it is set to where not all are set to the same."""
    settings = [settings_of(run) for run in runs]
    named = [
        [f"{k} {_end(text)}" for k, text in own.items() if any(s.get(k) != text for s in settings)]
        for own in settings
    ]
    if max(map(len, named)) <= MOST_NAMED and len(set(map(tuple, named))) == len(runs):
        return named
    folders = [run.path.resolve() for run in runs]
    shared = os.path.commonpath([folder.parent for folder in folders])
    return [[f"run {os.path.relpath(folder, shared)}"] for folder in folders]


def _end(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH else "…" + text[1 - VALUE_LENGTH :]


def main_metric(runs: Iterable[Run]) -> str | None:
    """The first metric whose name contains ``Accuracy``, else the first, else None."""
    names = [name for run in runs for row in run.rows for name in row.get("metrics") or {}]
    return next((name for name in names if is_accuracy(name)), names[0] if names else None)


def summarise_group(label: str, group: Sequence[Run], metric: str | None) -> dict[str, Any]:
    """The row of runs that differ in their seeds only, see :func:`summarise`; no ``difference``.

    Args:
        label (str): What they are called.
        group (Sequence[Run]): At least one.
        metric (str | None): Which metric ``accuracy`` is to be.
    """
    seeds = group_seeds(group)

    def by_seed(value: Callable[[Run], float]) -> list[float]:
        means = [_mean(map(value, runs)) for runs in seeds]
        return [mean for mean in means if mean is not None]

    accuracies = by_seed(lambda run: _final_metric(run, metric))
    seconds = _mean(by_seed(lambda run: _total(run, "seconds")))
    agent_seconds = _mean(by_seed(lambda run: _total(run, "agent_seconds")))
    return {
        "selector": label,
        "seeds": len(seeds),
        "runs": len(group),
        "metric": metric,
        "accuracy": _mean(accuracies),
        "accuracy_std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "samples": _mean(by_seed(lambda run: _last(run, "samples_seen"))),
        "looked": _mean(by_seed(lambda run: _total(run, "looked"))),
        "share_of_full": _mean(by_seed(_share_of_full)),
        "fetched": _mean(by_seed(lambda run: _total(run, "egress_bytes"))),
        "requests": _mean(by_seed(lambda run: _total(run, "egress_requests"))),
        "dollars": _mean(by_seed(lambda run: _total(run, "egress_dollars"))),
        "seconds": seconds,
        "overhead": agent_seconds / seconds if seconds and agent_seconds is not None else None,
    }


def _final_metric(run: Run, metric: str | None) -> float:
    evaluated = [row["metrics"] for row in run.rows if row.get("metrics")]
    return number(evaluated[-1].get(metric)) if evaluated else math.nan


def costs(run: Run) -> list[float]:
    """What was spent up to the end of each row, in samples trained on: looks count as a part."""
    looked = np.nancumsum([number(row.get("looked")) for row in run.rows])
    trained = [number(row.get("samples_seen")) for row in run.rows]
    return (np.array(trained) + LOOK_COST * looked).tolist()


def _share_of_full(run: Run) -> float:
    samples, share = _last(run, "samples_seen"), _last(run, "share_of_full")
    return share * costs(run)[-1] / samples if samples > 0 else share


def _last(run: Run, name: str) -> float:
    return number(run.rows[-1].get(name)) if run.rows else math.nan


def _total(run: Run, name: str) -> float:
    values = [number(row.get(name)) for row in run.rows]
    known = [value for value in values if not math.isnan(value)]
    return sum(known) if known else math.nan


def _mean(values: Iterable[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else None
