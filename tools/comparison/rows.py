# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A finished run as one row of the results, and the file of all rows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from comparison.measures import MEASURES, measured
from comparison.shards import wrong_labels
from composer_dataagent.report import read_run

KEY = ("source", "condition", "selector", "ratio", "seed")
# Sizes of epochs are rounded, and a short run ends with a whole step.
_TOLERANCE = 0.01


def row_of(run_dir: Path, train: Path, expected_samples: int) -> dict[str, Any]:
    """What a run reached, and at what cost.

    Args:
        run_dir (Path): Its folder.
        train (Path): The shards that it was trained on.
        expected_samples (int): Its budget.

    Returns:
        dict[str, Any]:

        - ``accuracy`` (in [0, 1]) or ``loss`` (of a language model, nats per token): on the
          evaluation set, after the last step,
        - ``samples``: samples trained on,
        - ``overhead``: seconds of the agent (signals, acting, PPO, selecting) over all others of
          training,
        - ``coverage``: share of the data that was ever seen; ``churn``: of the last selection, the
          share that the one before did not have,
        - ``shards_touched``: share of the shards that pruned epochs read, in the mean (None: there
          were no such epochs, or no shards to choose between),
        - ``wrong``: share of wrong labels in the data; ``wrong_selected``: in the last epoch (of
          ``paper`` that is a full one).

    Raises:
        click.ClickException: The run trained on more or fewer samples than its budget.
    """
    run = read_run(run_dir)
    last = run.rows[-1]
    samples = last["samples_seen"]
    if abs(samples / expected_samples - 1) > _TOLERANCE:
        raise click.ClickException(
            f"{run_dir} trained on {samples} samples, but its budget is {expected_samples}: not a "
            "fair comparison"
        )
    wrong = wrong_labels(train)
    agent = sum(row["agent_seconds"] for row in run.rows)
    seconds = sum(row["seconds"] for row in run.rows)
    in_last_epoch = run.ledger["last_seen"] == run.ledger["last_seen"].max()
    return {
        **measured(last["metrics"]),
        "samples": samples,
        "overhead": agent / (seconds - agent),
        "coverage": last["coverage"],
        "churn": last["churn"],
        "shards_touched": _mean(row["shards_touched"] for row in run.rows if row["ratio"] < 1),
        "wrong": float(wrong.mean()),
        "wrong_selected": float(wrong[in_last_epoch].mean()),
        "seconds": seconds,
    }


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def read_rows(path: Path, columns: Iterable[str] = (*KEY, "recipe")) -> list[dict[str, Any]]:
    """All rows of a results file; none if it is not there.

    Args:
        path (Path): The file.
        columns (Iterable[str]): What each row has, beside a measure.

    Raises:
        click.ClickException: A line is not one.
    """
    if not path.exists():
        return []
    return [
        _row_of(line, f"{path}, line {number}", {*columns})
        for number, line in enumerate(path.read_text().splitlines(), 1)
    ]


def _row_of(line: str, place: str, columns: set[str]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    try:
        row = json.loads(line)
        missing = columns - row.keys()
        if not any(measure.name in row for measure in MEASURES):
            missing.add(" or ".join(measure.name for measure in MEASURES))
    except (ValueError, AttributeError):
        missing = {"JSON"}
    if missing:
        raise click.ClickException(
            f"{place} is no result (it lacks {', '.join(sorted(missing))}): remove the line, and "
            "its run is made again"
        )
    return row


def is_made(path: Path, row: Mapping[str, Any] | None, name: str, recipe: str) -> bool:
    """Whether a results file has a run.

    Args:
        path (Path): The file.
        row (Mapping[str, Any] | None): What it has in the run's place.
        name (str): Of the run.
        recipe (str): Fingerprint of how it would be made now.

    Raises:
        click.ClickException: It was made with other settings.
    """
    if row is not None and row["recipe"] != recipe:
        raise click.ClickException(
            f"{path} has {name}, made with other settings: give another --out"
        )
    return row is not None


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row; it is on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def values(rows: Iterable[Mapping[str, Any]], name: str) -> dict[int, float]:
    """One value of rows that differ in their seeds only, by seed."""
    return {row["seed"]: row[name] for row in rows if row[name] is not None}
