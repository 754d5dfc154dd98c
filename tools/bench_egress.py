# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a selection saves of an object store's egress, and what it costs in time.

    \b
    python tools/bench_egress.py                        all of it
    python tools/bench_egress.py --quick                less of it, in a few minutes
    python tools/bench_egress.py --modes stock,shards   some ways to fetch

Two ranks with two workers each stream a new random selection in each epoch from a store on the
loopback, which counts what it sends. stock: samples anywhere, shards are fetched whole. shards:
whole shards are selected, by random scores. ranged: samples anywhere, and they alone are fetched.
The cache is empty at first; a large one keeps everything, a small one a share of the data. For the
times, the store answers late and has a bandwidth; there the modes take turns, and figures are
medians. Every sample that is served is checked. Ends with one line of JSON; the exit code is 1 if
a sample was wrong. (Shared memory stays until then, which Python's resource tracker remarks on.)
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any

import click
from egress.ranks import Epoch, Job, run_job
from egress.samples import Shards, write_shards
from egress.server import LoopbackStore, loopback_store
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from composer_dataagent.streaming.costs import Costs

MODES = ("stock", "shards", "ranged")
PARTS = ("bytes", "time")
Results = dict[Job, list[list[Epoch]]]


def _many(kind: Callable[[str], Any]) -> Callable[[Any, Any, str], tuple[Any, ...]]:
    """An option's values, with commas between them."""

    def parse(_: click.Context, parameter: click.Parameter, value: str) -> tuple[Any, ...]:
        try:
            return tuple(kind(part) for part in value.split(","))
        except ValueError as error:
            raise click.BadParameter(str(error), param=parameter) from None

    return parse


def _mode(name: str) -> str:
    if name not in MODES:
        raise ValueError(f"{name!r} is not one of {', '.join(MODES)}")
    return name


@click.command(help=__doc__)
@click.option("--only", type=click.Choice(PARTS), help="Part to run.  [default: both]")
@click.option("--modes", default=",".join(MODES), show_default=True, callback=_many(_mode))
@click.option(
    "--sizes", default="4,16,100", show_default=True, callback=_many(int), help="kB of a sample."
)
@click.option(
    "--ratios",
    default="0.1,0.3,0.5,0.7",
    show_default=True,
    callback=_many(float),
    help="Selected.",
)
@click.option("--time-sizes", default="16,100", show_default=True, callback=_many(int))
@click.option("--time-ratios", default="0.3,0.5", show_default=True, callback=_many(float))
@click.option("--megabytes", default=96.0, show_default=True, help="Of the data of each size.")
@click.option("--shard-megabytes", default=3.0, show_default=True, help="size_limit of a shard.")
@click.option("--cache", default=0.5, show_default=True, help="The small one: share of the data.")
@click.option("--epochs", default=3, show_default=True, type=click.IntRange(1))
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1), help="Of times.")
@click.option("--latency", default=0.02, show_default=True, help="Seconds until an answer.")
@click.option("--bandwidth", default=50.0, show_default=True, help="MB/s over all connections.")
@click.option("--costs", default="{}", callback=lambda *a: json.loads(a[2]), help="JSON of Costs.")
@click.option("--quick", is_flag=True, help="16 kB, half of them, fewer data and repeats.")
def main(quick: bool, only: str | None, costs: dict[str, Any], **options: Any) -> None:
    """Write the data, run the parts, print their tables, and all figures as one line of JSON."""
    if quick:
        options |= {"sizes": (16,), "ratios": (0.5,), "time_sizes": (16,), "time_ratios": (0.5,)}
        options |= {"megabytes": 48.0, "epochs": 2, "repeats": 2}
    # What takes long to import; the server of forks does not find the modules beside this one.
    multiprocessing.set_forkserver_preload(["composer_dataagent.streaming", "boto3"])
    parts = PARTS if only is None else (only,)
    sizes = {size for part, key in zip(PARTS, ("sizes", "time_sizes"), strict=True)
             if part in parts for size in options[key]}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        data = {
            size: write_shards(
                Path(folder, f"{size}k"),
                1_000 * size,
                int(1e6 * options["megabytes"]),
                int(1e6 * options["shard_megabytes"]),
            )
            for size in sorted(sizes)
        }
        jobs = {part: make_jobs(part, data, costs, **options) for part in parts}
        with loopback_store(folder) as store:
            results = {
                part: run_all(part, jobs[part], 1 if part == "bytes" else options["repeats"], store)
                for part in parts
            }
    figures = empty_figures()
    if "bytes" in results:
        figures |= bytes_figures(results["bytes"], Costs.of(costs))
        print_bytes(results["bytes"], Costs.of(costs))
    if "time" in results:
        figures |= time_figures(results["time"])
        print_times(results["time"])
    epochs = [e for of in results.values() for runs in of.values() for run in runs for e in run]
    figures["wrong_samples"] = sum(epoch.wrong for epoch in epochs)
    figures["epochs"] = len(epochs)
    print(json.dumps(figures))
    sys.exit(1 if figures["wrong_samples"] else 0)


def make_jobs(
    part: str,
    data: dict[int, Shards],
    costs: dict[str, Any],
    *,
    modes: Sequence[str],
    cache: float,
    epochs: int,
    latency: float,
    bandwidth: float,
    **options: Any,
) -> list[Job]:
    """The jobs of a part, those that are compared next to one another."""
    timed = part == "time"
    store = {"latency": latency, "bandwidth": 1e6 * bandwidth} if timed else {}
    prefix = "time_" if timed else ""
    return [
        Job(mode, data[size], ratio, epochs, limit, json.dumps(costs), **store)
        for size, ratio, limit, mode in product(
            options[f"{prefix}sizes"], options[f"{prefix}ratios"], (None, cache), modes
        )
    ]


def run_all(part: str, jobs: Sequence[Job], repeats: int, store: LoopbackStore) -> Results:
    """Run every job several times; what other work does to them, it does to all in turns."""
    results: Results = {job: [] for job in jobs}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(part, total=repeats * len(jobs))
        for _ in range(repeats):
            for job in jobs:
                results[job].append(run_job(job, store))
                progress.advance(task)
    return results


# ---------------------------------------------------------------------- figures


def name_of(job: Job) -> str:
    """Of the figures of a job's setting."""
    return f"{job.shards.size // 1_000}k_r{round(100 * job.ratio)}"


def empty_figures() -> dict[str, Any]:
    """The figures that are always there, also if nothing gave them."""
    names = [f"bytes_vs_selected_{size}k_r50" for size in (16, 100)]
    names += [f"epoch_time_vs_stock_r{percent}" for percent in (50, 30)]
    return dict.fromkeys([*names, "first_batch_vs_stock_r50"])


def bytes_figures(results: Results, costs: Costs) -> dict[str, Any]:
    """Of the ranged mode without a name; the first epoch, or all with a small cache."""
    figures = {}
    for job, (epochs,) in results.items():
        counted = epochs[:1] if job.cache is None else epochs
        cache = "" if job.cache is None else "_small_cache"
        prefix = "" if job.mode == "ranged" else f"{job.mode}_"
        sent, least = (sum(getattr(e, name) for e in counted) for name in ("sent", "least"))
        figures[f"{prefix}bytes_vs_selected_{name_of(job)}{cache}"] = sent / least
        stock = results.get(dataclasses.replace(job, mode="stock"))
        if stock is not None and job.mode != "stock":
            mine, its = (
                sum(dollars(epoch, job, costs) for epoch in run[: len(counted)])
                for run in (epochs, stock[0])
            )
            figures[f"{prefix}dollars_vs_stock_{name_of(job)}{cache}"] = mine / its
    return figures


def against_stock(
    results: Results, job: Job, figure: Callable[[list[Epoch]], float]
) -> float | None:
    """Median over the repetitions of a job's figure divided by that of stock."""
    stock = results.get(dataclasses.replace(job, mode="stock"))
    if stock is None:
        return None
    return median(figure(mine) / figure(its) for mine, its in zip(results[job], stock, strict=True))


def first_seconds(epochs: list[Epoch]) -> float:
    """Of the first epoch, where nothing is in the cache."""
    return epochs[0].seconds


def mean_seconds(epochs: list[Epoch]) -> float:
    """Of all epochs."""
    return mean(epoch.seconds for epoch in epochs)


def first_batch(epochs: list[Epoch]) -> float:
    """Seconds to the first batch of all."""
    return epochs[0].first_batch


def time_figures(results: Results) -> dict[str, Any]:
    """Of the ranged mode and 16 kB without a name; the first epoch, or all with a small cache."""
    figures = {}
    for job in results:
        if job.mode == "stock":
            continue
        prefix = "" if job.mode == "ranged" else f"{job.mode}_"
        size, _, ratio = name_of(job).partition("_")
        name = ratio if size == "16k" else f"{size}_{ratio}"
        if job.cache is None:
            key = f"{prefix}epoch_time_vs_stock_{name}"
            figures[key] = against_stock(results, job, first_seconds)
            key = f"{prefix}first_batch_vs_stock_{name}"
            figures[key] = against_stock(results, job, first_batch)
        else:
            key = f"{prefix}epoch_time_vs_stock_{name}_small_cache"
            figures[key] = against_stock(results, job, mean_seconds)
    return figures


# ---------------------------------------------------------------------- tables


def rows_of(results: Results, table: Table) -> Iterator[tuple[Job, list[list[Epoch]], list[str]]]:
    """Jobs with the cells that name them, and a line between what is not compared."""
    last = None
    for job, runs in results.items():
        setting = (name_of(job), job.cache)
        if last not in (None, setting):
            table.add_section()
        last = setting
        size = f"{job.shards.size // 1_000} kB"
        cache = "all" if job.cache is None else f"{job.cache:.0%}"
        yield job, runs, [size, f"{job.ratio:g}", cache, job.mode]


def print_bytes(results: Results, costs: Costs) -> None:
    """Bytes against the data and against the least possible; requests; money; seconds."""
    names = ["sample", "ratio", "cache", "mode"]
    for what in ("bytes / data", "bytes / least", "requests", "$ per TB"):
        names += [what, "all"]
    table = Table(*names, "wrong")
    total, largest = (
        max(getattr(job.shards, name) for job in results) / 1e6 for name in ("total", "largest")
    )
    table.title = f"First epoch, and mean of all: {total:.0f} MB in shards of {largest:.1f} MB"
    table.caption = "$ per TB: of an epoch of a TB of such shards."
    for job, (epochs,), cells in rows_of(results, table):
        for per_epoch, form in (
            ([epoch.sent / job.shards.total for epoch in epochs], "{:.3f}"),
            ([epoch.sent / epoch.least for epoch in epochs], "{:.3f}"),
            ([epoch.requests for epoch in epochs], "{:,.0f}"),
            ([dollars(epoch, job, costs) for epoch in epochs], "{:.2f}"),
        ):
            cells += [form.format(per_epoch[0]), form.format(mean(per_epoch))]
        table.add_row(*cells, str(sum(epoch.wrong for epoch in epochs)))
    Console(width=130).print(table)


def dollars(epoch: Epoch, job: Job, costs: Costs) -> float:
    """What the store's owner would ask for such an epoch of 10^12 bytes of data."""
    asked = epoch.requests * costs.dollars_per_million_requests / 1e6
    asked += epoch.sent * costs.dollars_per_gb / 1e9
    return asked * 1e12 / job.shards.total


def print_times(results: Results) -> None:
    """Seconds to the first batch, of the first epoch and of all."""
    names = ["sample", "ratio", "cache", "mode"]
    for what in ("first batch s", "first epoch s", "all epochs s"):
        names += [what, "/ stock"]
    table = Table(*names, "wrong")
    job = next(iter(results))
    table.title = (
        f"Answers after {1e3 * job.latency:.0f} ms, {(job.bandwidth or 0) / 1e6:.0f} MB/s in all, "
        f"median of {len(results[job])}"
    )
    for job, runs, cells in rows_of(results, table):
        for figure in (first_batch, first_seconds, mean_seconds):
            ratio = against_stock(results, job, figure)
            cells += [f"{median(map(figure, runs)):.2f}", "" if ratio is None else f"{ratio:.2f}"]
        table.add_row(*cells, str(sum(epoch.wrong for run in runs for epoch in run)))
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
