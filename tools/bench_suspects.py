# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""How many of the samples that `composer-dataagent suspects` lists do have a wrong label?

    \b
    python tools/bench_suspects.py                     Fashion-MNIST; minutes for each run
    python tools/bench_suspects.py --conditions noise40 --seeds 1

Trains the recipe of the source on 8,000 images, a part of whose labels is changed, and asks for
the list, as a user would: precision of its first entries and of all of it, how many of the wrong
labels it has (recall), and how often the model's prediction is the right label of a wrong one.
Medians over seeds. Runs that are there are not made again. Ends with a table and one line of JSON.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from comparison.conditions import CONDITIONS, Condition
from comparison.methods import METHODS
from comparison.options import Names
from comparison.runs import Job, plan
from comparison.shards import condition_of, prepare
from comparison.sources import FASHION_FOLDER, SOURCES
from comparison.table import in_markdown
from folder_lock import held
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track

from composer_dataagent.recipes import train
from composer_dataagent.report import read_run
from composer_dataagent.report.suspects import list_suspects

FIRST = (100, 500)
DEFAULT = ("noise40", "noise20", "asymmetric40", "tail50_noise20", "clean")


@click.command()
@click.option("--source", type=click.Choice([*SOURCES]), default="fashion", show_default=True)
@click.option(
    "--conditions", type=Names([*CONDITIONS]), default=",".join(DEFAULT), show_default=True
)
@click.option("--selectors", type=Names([*METHODS]), default="data_agent,full")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="How many.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default="runs/suspects",
    show_default=True,
    help="Shards and runs.",
)
@click.option(
    "--fashion",
    type=click.Path(path_type=Path),
    default=FASHION_FOLDER,
    show_default=True,
    help="The .gz files of Debian's package dataset-fashion-mnist.",
)
def main(
    source: str,
    conditions: tuple[str, ...],
    selectors: tuple[str, ...],
    seeds: int,
    folder: Path,
    fashion: Path,
) -> None:
    """Train, list, count."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    loaded, data = SOURCES[source](fashion), folder / "data" / source
    jobs = [
        Job(source, condition, selector, 0.5, seed)
        for condition in conditions
        for selector in selectors
        for seed in range(seeds)
    ]
    found = {}
    console = Console(stderr=True)
    with held(folder, f"another bench_suspects.py works in {folder}: give another --folder"):
        for job in track(jobs, "runs", console=console):
            prepare(loaded, data, job.condition, job.seed)
            recipe = plan(job, data, folder / "runs").recipe
            train(recipe)
            truth = loaded.train.labels, condition_of(loaded, job.condition, job.seed)
            found[job] = measure(Path(recipe.run_dir), *truth)
    rows = [
        {
            "condition": condition,
            "selector": selector,
            **medians([found[job] for job in jobs if is_of(job, condition, selector)]),
        }
        for condition in conditions
        for selector in selectors
    ]
    Console().print(Markdown(in_markdown(*as_table(rows))))
    print(json.dumps({"source": source, "seeds": seeds, **as_line(rows)}))


def measure(run_dir: Path, labels: np.ndarray, truth: Condition) -> dict[str, float]:
    """What a run's list has, against what was done to the data.

    Args:
        run_dir (Path): Of a finished run.
        labels (np.ndarray): Of the source, by row.
        truth (Condition): What the run was trained on.

    Returns:
        dict[str, float]: Shares, NaN where there is nothing to have a share of.
    """
    listed = list_suspects(read_run(run_dir))
    ids = np.array([row["sample_id"] for row in listed], int)
    predicted = np.array([row["predicted"] for row in listed], int)
    wrong = truth.wrong[ids]
    right = predicted == labels[truth.rows[ids]]
    return {
        "wrong": share(truth.wrong),
        "listed": len(ids) / len(truth.wrong),
        **{f"precision_{first}": share(wrong[:first]) for first in FIRST},
        "precision": share(wrong),
        "recall": float(wrong.sum() / truth.wrong.sum()) if truth.wrong.any() else np.nan,
        "predicted_right": share(right[wrong]),
    }


def share(true: np.ndarray) -> float:
    """How many are true, NaN of none."""
    return float(true.mean()) if len(true) else np.nan


def is_of(job: Job, condition: str, selector: str) -> bool:
    """Whether a run belongs to a line of the table."""
    return (job.condition, job.selector) == (condition, selector)


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Of each number, over seeds."""
    return {name: float(np.median([run[name] for run in runs])) for name in runs[0]}


def as_table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells."""
    names = {
        "condition": "labels",
        "selector": "selector",
        "wrong": "wrong",
        "listed": "listed",
        **{f"precision_{first}": f"precision of the first {first}" for first in FIRST},
        "precision": "of all listed",
        "recall": "recall",
        "predicted_right": "prediction is the right label",
    }
    return [*names.values()], [[cell(row[name]) for name in names] for row in rows]


def cell(value: float | str) -> str:
    """A share in percent."""
    if isinstance(value, str):
        return value
    return "" if np.isnan(value) else f"{100 * value:.1f} %"


def as_line(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """The numbers by name, of each condition and selector."""
    return {
        f"{name}_{row['condition']}_{row['selector']}": None if np.isnan(value) else round(value, 4)
        for row in rows
        for name, value in row.items()
        if not isinstance(value, str)
    }


if __name__ == "__main__":
    main()
