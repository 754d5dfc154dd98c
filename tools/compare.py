# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Compare ways to choose training data at equal budgets, over data conditions and seeds.

    \b
    python tools/compare.py --preset quick      digits; a few minutes
    python tools/compare.py --preset full       Fashion-MNIST; hours
    python tools/compare.py --preset families   a ResNet, a vision and a text transformer; hours
    python tools/compare.py --preset language   texts: classified, continued, answered; hours
    python tools/compare.py --preset egress     what touching fewer shards costs; hours
    python tools/compare.py --selectors random,data_agent --conditions clean,noise40 --seeds 3

Each run is a recipe that `composer-dataagent train` would run the same way: Composer's Trainer,
MDS shards, the package's own selectors. Runs that a results file has are not made again, and one
that was stopped goes on. Ends with tables, beside the results as Markdown and picture, and one
line of JSON.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import multiprocessing
import os
import shlex
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from comparison.conditions import CONDITIONS
from comparison.methods import EGRESS, METHODS, USUAL
from comparison.options import Names, Ratios
from comparison.picture import draw
from comparison.rows import KEY, append_row, is_made, read_rows
from comparison.runs import Job, fingerprint, jobs_of, plan, run_job
from comparison.shards import is_prepared, prepare
from comparison.sources import FASHION_FOLDER, SOURCES
from comparison.table import best_rule, difference_to, groups_of, to_markdown, with_mean
from folder_lock import held
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from composer_dataagent.recipes import RecipeError


@dataclass(frozen=True)
class Preset:
    """What is compared when nothing else is said.

    Attributes:
        sources (tuple[str, ...]): Names in ``SOURCES``.
        seeds (int): How many.
        conditions (tuple[str, ...]): Names in ``CONDITIONS``. Default: all.
        selectors (tuple[str, ...]): Names in ``METHODS``. Default: the usual ones.
    """

    sources: tuple[str, ...]
    seeds: int
    conditions: tuple[str, ...] = tuple(CONDITIONS)
    selectors: tuple[str, ...] = USUAL


PRESETS = {
    "quick": Preset(("digits",), seeds=3),
    "full": Preset(("fashion",), seeds=5),
    # Whether what holds for a small CNN holds for other models and data, too: of each kind of
    # condition, the hardest.
    "families": Preset(
        ("text", "fashion_resnet8", "fashion_vit"),
        seeds=3,
        conditions=("clean", "noise40", "asymmetric40", "tail50"),
    ),
    # Wrong labels are wrong classes, junk, wrong responses.
    "language": Preset(
        ("text", "causal_lm", "instructions"), seeds=3, conditions=("clean", "noise40")
    ),
    # 49 shards of 163 images, the last one smaller.
    "egress": Preset(
        ("fashion",),
        seeds=5,
        conditions=("clean", "noise40", "tail50"),
        selectors=("full", "short", "random", "entropy", "data_agent", *EGRESS),
    ),
}


@click.command(help=__doc__, context_settings={"max_content_width": 100, "show_default": True})
@click.option("--preset", type=click.Choice(list(PRESETS)), default="quick")
@click.option("--sources", type=Names(list(SOURCES)), help="Default: the preset's.")
@click.option("--conditions", type=Names(list(CONDITIONS)), help="Default: the preset's.")
@click.option("--selectors", type=Names(list(METHODS)), help="Default: the preset's.")
@click.option("--ratios", type=Ratios(), default="0.5")
@click.option("--seeds", type=click.IntRange(1), help="How many. Default: the preset's.")
@click.option("--jobs", type=click.IntRange(1), default=2, help="Runs side by side, a core each.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default="runs/compare", help="Shards and runs."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The results. Default: tools/results/<preset>.jsonl.",
)
@click.option(
    "--fashion",
    type=click.Path(path_type=Path),
    default=FASHION_FOLDER,
    help="The .gz files of Debian's package dataset-fashion-mnist.",
)
@click.option("--prepare", "only_prepare", is_flag=True, help="Write the shards, and stop.")
@click.option("--table", "only_table", is_flag=True, help="Show what the results file has.")
def main(
    preset: str,
    sources: tuple[str, ...] | None,
    conditions: tuple[str, ...] | None,
    selectors: tuple[str, ...] | None,
    ratios: tuple[float, ...],
    seeds: int | None,
    jobs: int,
    folder: Path,
    out: Path | None,
    fashion: Path,
    only_prepare: bool,
    only_table: bool,
) -> None:
    """Prepare, run, show."""
    out = out or Path(__file__).parent / "results" / f"{preset}.jsonl"
    if out.suffix != ".jsonl":
        raise click.UsageError(f"--out {out} should end in .jsonl: tables go beside it")
    folder = folder.resolve()
    if not only_table:
        of_preset = PRESETS[preset]
        todo = list(
            jobs_of(
                sources or of_preset.sources,
                conditions or of_preset.conditions,
                selectors or of_preset.selectors,
                ratios,
                range(seeds or of_preset.seeds),
            )
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.ClickException(f"--folder: {error}") from error
        busy = (
            f"another compare.py works in {folder}: wait for it, or give another --folder and --out"
        )
        with held(folder, busy):
            prepared = prepare_all(todo, folder, fashion)
            if only_prepare:
                click.echo(f"{prepared} data sets are in {folder / 'data'}")
                return
            left = missing(todo, out, folder)
            click.echo(f"{len(todo) - len(left)} of {len(todo)} runs are in {out}", err=True)
            try:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.touch()  # now, not after the first run
                run_all(left, out, folder, jobs)
            except (RecipeError, OSError) as error:
                raise click.ClickException(str(error)) from error
    rows = read_rows(out)
    if not rows:
        raise click.ClickException(f"{out} has no results yet")
    text = to_markdown(rows)
    out.with_suffix(".md").write_text(f"{origin_of(rows, out)}\n\n{text}")
    draw(rows, out.with_suffix(".svg"))
    Console().print(Markdown(text))
    print(json.dumps(summary(rows)))


def prepare_all(jobs: Sequence[Job], folder: Path, fashion: Path) -> int:
    """Write the shards of all jobs that are not there; give the number of data sets that are."""
    load = functools.cache(lambda name: SOURCES[name](fashion))  # seconds for texts
    wanted = dict.fromkeys((j.source, j.condition, j.seed) for j in jobs)
    for source, condition, seed in wanted:
        data = folder / "data" / source
        if not is_prepared(data, condition, seed):
            prepare(load(source), data, condition, seed)
    return len(wanted)


def missing(jobs: Sequence[Job], out: Path, folder: Path) -> list[Job]:
    """The jobs that the results file lacks.

    Raises:
        click.ClickException: It has one that was made with other settings.
    """
    there = {tuple(row[key] for key in KEY): row for row in read_rows(out)}
    left = []
    for job in jobs:
        row = there.get(tuple(getattr(job, key) for key in KEY))
        try:
            recipe = plan(job, folder / "data" / job.source, folder / "runs").recipe
        except ValueError as error:
            raise click.ClickException(f"{job.name}: {error}") from error
        if not is_made(out, row, job.name, fingerprint(recipe)):
            left.append(job)
    return left


def run_all(jobs: Sequence[Job], out: Path, folder: Path, side_by_side: int) -> None:
    """Run jobs, and add a row for each as it ends."""
    console = Console(stderr=True)
    columns = [*Progress.get_default_columns()[:2], MofNCompleteColumn()]
    pool = ProcessPoolExecutor(side_by_side, multiprocessing.get_context("spawn"))
    with (
        Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress,
        pool,
    ):
        task = progress.add_task("runs", total=len(jobs))
        futures = {
            pool.submit(run_job, job, folder / "data" / job.source, folder / "runs"): job
            for job in jobs
        }
        try:
            for future in as_completed(futures):
                row = future.result()
                append_row(out, row)
                progress.update(task, advance=1, description=futures[future].name)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The default agent against others, in points or nats, for each source, ratio, condition."""
    differences = {}
    for source, ratio, conditions in groups_of(rows):
        for condition, own in with_mean(conditions).items():
            best, seeds = best_rule(own)
            against = {"random": "random", "short": "short", "best_rule": best, "full": "full"}
            entry: dict[str, Any] = {"best_rule_is": best, "best_of_seeds": seeds}
            for label, other in against.items():
                found = difference_to(own, "data_agent", other)
                if found is not None:
                    interval = (found.mean, found.low, found.high)
                    entry[f"to_{label}"] = [round(value, 3) for value in interval]
            differences[f"{source} {ratio:g} {condition}"] = entry
    return {"rows": len(rows), "data_agent": differences}


def origin_of(rows: Sequence[dict[str, Any]], out: Path) -> str:
    """What the rows are: all that one command makes, or how many of these."""
    values = {
        f"--{name}s": [*dict.fromkeys(f"{row[name]}" for row in rows)]
        for name in ("source", "condition", "selector", "ratio")
    }
    seeds = max(row["seed"] for row in rows) + 1
    runs = seeds * math.prod(map(len, values.values()))
    options = {name: ",".join(given) for name, given in values.items()}
    options |= {"--seeds": f"{seeds}", "--out": os.path.relpath(out)}
    command = shlex.join(["python", "tools/compare.py", *itertools.chain(*options.items())])
    if len(rows) == runs:
        return f"Made by `{command}`"
    return f"{len(rows)} of the {runs} runs that `{command}` makes; the others were not made."


if __name__ == "__main__":
    main()
