# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Does selection pay where data are seen once? One epoch in ten rounds, ways to choose in each.

    \b
    python tools/compare_rounds.py                      Python's library, a language model
    python tools/compare_rounds.py --sources fashion_all --conditions clean,noise40

A round's samples were never seen before. They are chosen at random; by what others of their shard
showed (`entropy`, `loss`, `data_agent`); or after a forward pass over all that the round chooses
from (`..., look`), which costs a third of training on them. `random, cost of look` trains on so
many samples more at random: what a look must beat to be worth it. Runs that the results file has
are not made again. Ends with a table and one line of JSON.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from comparison.conditions import CONDITIONS
from comparison.measures import measure_of, measured
from comparison.options import Names, Ratios
from comparison.rows import append_row, is_made, read_rows
from comparison.runs import fingerprint, recipe_file
from comparison.shards import prepare, train_folder
from comparison.sources import FASHION_FOLDER, SOURCES
from comparison.statistics import paired_difference
from comparison.table import in_markdown, interval
from folder_lock import held
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track

from composer_dataagent.recipes import Recipe, load_recipe, train
from composer_dataagent.report import read_run
from composer_dataagent.report.summary import LOOK_COST
from composer_dataagent.version import __version__

ROUNDS = 10
FULL = "full"
# What all are compared with: as many samples, and as many as cost the same as a look.
REFERENCES = ("random", "random, cost of look")
# Small batches: a small data set seen once should still be several hundred steps.
BATCH_SIZE = {"library": 16, "fashion_all": 64}
RULES = ("random", "entropy", "loss", "data_agent")
KEY = ("source", "condition", "ratio", "way", "seed")
RESULTS = Path(__file__).parent / "results" / "rounds.jsonl"


def ways(ratio: float) -> dict[str, dict[str, Any]]:
    """What is compared, by its name: arguments of DataAgent."""
    in_rounds = {"interval": f"{1 / ROUNDS}ep", "ratio": ratio}
    if ratio == 1.0:
        return {FULL: {**in_rounds, "selector": "random"}}
    cost_of_look = min(ratio + LOOK_COST, 1.0)  # the first round is full in all of them
    return {
        **{rule: {**in_rounds, "selector": rule} for rule in RULES},
        "random, cost of look": {**in_rounds, "ratio": cost_of_look, "selector": "random"},
        **{f"{rule}, look": {**in_rounds, "selector": rule, "look": True} for rule in RULES[1:]},
    }


def name_of(job: dict[str, Any]) -> str:
    """Names its run folder."""
    return "-".join(str(job[key]).replace(", ", "_").replace(" ", "_") for key in KEY)


def recipe_of(job: dict[str, Any], shards: Path, evaluation: Path, folder: Path) -> Recipe:
    """One epoch of a job's way to choose."""
    name = name_of(job)
    recipe = load_recipe(recipe_file(job["source"])).model_dump()
    recipe |= {"run_name": name, "run_dir": str(folder / name), "seed": job["seed"]}
    recipe["train_loader"]["dataset"]["local"] = str(shards)
    recipe["eval_loader"]["dataset"]["local"] = str(evaluation)
    loader = recipe["train_loader"]
    loader["batch_size"] = BATCH_SIZE.get(job["source"], loader["batch_size"])
    agent = ways(job["ratio"])[job["way"]] | {"seed": job["seed"]}
    recipe["algorithms"] = {"data_agent": agent}
    recipe["trainer"] |= {"max_duration": "1ep", "eval_interval": "1dur", "progress_bar": False}
    return Recipe.model_validate(recipe)


def run(job: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Train; give the job's row."""
    train(recipe)
    rows = read_run(recipe.run_dir).rows
    return {
        **job,
        **measured(rows[-1]["metrics"]),
        "samples": rows[-1]["samples_seen"],
        "looked": sum(row["looked"] for row in rows),
        "seconds": sum(row["seconds"] for row in rows),
        "recipe": fingerprint(recipe),
        "version": __version__,
    }


def tables(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown: a table for each source, condition and ratio."""
    for source, condition, ratio in dict.fromkeys(
        (row["source"], row["condition"], row["ratio"]) for row in rows if row["ratio"] < 1
    ):
        here = [r for r in rows if (r["source"], r["condition"]) == (source, condition)]
        measure = measure_of(here)
        by_way = {
            way: {r["seed"]: r for r in here if r["way"] == way and r["ratio"] in (1.0, ratio)}
            for way in (FULL, *ways(ratio))
        }
        values = {
            way: {seed: row[measure.name] * measure.scale for seed, row in found.items()}
            for way, found in by_way.items()
        }
        full, lines = by_way[FULL], []
        for way, found in by_way.items():
            costs = [
                (row["samples"] + LOOK_COST * row["looked"]) / full[seed]["samples"]
                for seed, row in found.items()
            ]
            seconds = [row["seconds"] / full[seed]["seconds"] for seed, row in found.items()]
            differences = (
                None if way == other else paired_difference(values[way], values[other])
                for other in REFERENCES
            )
            lines.append(
                [
                    way,
                    f"{np.mean(list(values[way].values())):.{measure.digits}f}",
                    *(interval(difference, measure.digits) for difference in differences),
                    f"{np.mean(costs):.0%}",
                    f"{np.median(seconds):.0%}",
                ]
            )
        yield f"\n{source}, {condition}, ratio {ratio:g}: {measure.title}\n"
        head = ["way", "mean", *(f"to {other}" for other in REFERENCES), "cost", "seconds"]
        yield in_markdown(head, lines)


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--sources", type=Names([*SOURCES]), default="library")
@click.option("--conditions", type=Names([*CONDITIONS]), default="clean")
@click.option(
    "--ratios", type=Ratios(), default="0.1,0.3", help="Shares of a round that are trained on."
)
@click.option("--seeds", type=click.IntRange(1), default=3)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default="runs/rounds",
    help="Shards and runs.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=RESULTS,
    show_default="tools/results/rounds.jsonl",
    help="The results.",
)
@click.option(
    "--fashion",
    type=click.Path(file_okay=False, path_type=Path),
    default=FASHION_FOLDER,
    help="Folder of Fashion-MNIST's .gz files.",
)
def main(
    sources: tuple[str, ...],
    conditions: tuple[str, ...],
    ratios: tuple[float, ...],
    seeds: int,
    folder: Path,
    out: Path,
    fashion: Path,
) -> None:
    """Make the runs that are missing, and print the tables."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    folder.mkdir(parents=True, exist_ok=True)
    jobs: list[dict[str, Any]] = [
        dict(zip(KEY, (source, condition, ratio, way, seed), strict=True))
        for seed, source, condition, ratio in itertools.product(
            range(seeds), sources, conditions, dict.fromkeys((1.0, *ratios))
        )
        for way in ways(ratio)
    ]
    with held(folder, f"Another comparison uses {folder}: use another --folder"):
        rows = read_rows(out, (*KEY, "samples", "looked", "seconds", "recipe"))
        known = {tuple(row[key] for key in KEY): row for row in rows}
        left = []
        for job in jobs:
            data = folder / "data" / job["source"]
            shards = train_folder(data, job["condition"], job["seed"])
            recipe = recipe_of(job, shards, data / "eval", folder / "runs")
            row = known.get(tuple(job.values()))
            if not is_made(out, row, name_of(job), fingerprint(recipe)):
                left.append((job, data, recipe))
        console = Console(stderr=True)
        for job, data, recipe in track(left, "runs", console=console, disable=not left):
            prepare(SOURCES[job["source"]](fashion), data, job["condition"], job["seed"])
            row = run(job, recipe)
            append_row(out, row)
            known[tuple(job.values())] = row
    wanted = [known[tuple(job.values())] for job in jobs]
    Console().print(Markdown("\n".join(tables(wanted))))
    click.echo(json.dumps({"rows": wanted}))


if __name__ == "__main__":
    main()
