# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What selective streaming costs against stock streaming: reading, epoch boundary, planning.

    \b
    python tools/bench_streaming.py                 all of it, about five minutes
    python tools/bench_streaming.py --only plan     one part

Stock and selective datasets take turns in one run; figures are medians. Other work on the machine
spoils them.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from streaming import MDSWriter, StreamingDataset
from streaming.base.world import World
from torch.utils.data import DataLoader, IterableDataset

from composer_dataagent.streaming import attach
from composer_dataagent.streaming.planning import generate_work
from composer_dataagent.streaming.store import SelectionStore

BATCH = 64
PARTS = ("read", "boundary", "plan")
KINDS = ("stock", "selective", "memory map")


class Ready(IterableDataset):
    """Samples that cost nothing: what a loader takes without any reading."""

    def __init__(self, sample: dict[str, Any], count: int) -> None:
        self.sample, self.count = sample, count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # Equal samples, each of its own as far as pickling is concerned.
        return ({"x": bytes(bytearray(self.sample["x"])), "y": i} for i in range(self.count))


@click.command(help=__doc__)
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Parts to run.")
@click.option("--samples", default=100_000, show_default=True, help="Of the reading part.")
@click.option("--rounds", default=5, show_default=True, help="Of the reading part.")
@click.option("--large", default=1_280_000, show_default=True, help="Samples of the boundary part.")
@click.option(
    "--huge", default=100_000_000, show_default=True, help="Samples of the planning part."
)
def main(only: tuple[str, ...], samples: int, rounds: int, large: int, huge: int) -> None:
    """Run the parts, print their tables, and all figures as one line of JSON."""
    figures: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        if "read" in (only or PARTS):
            figures |= bench_reading(Path(folder, "read"), samples, rounds)
        if "boundary" in (only or PARTS):
            figures |= bench_boundary(Path(folder, "boundary"), large)
    if "plan" in (only or PARTS):
        figures |= bench_planning(huge)
    print(json.dumps(figures))


# ---------------------------------------------------------------------- reading


def bench_reading(folder: Path, samples: int, rounds: int) -> dict[str, float | None]:
    """Samples per second of local shards, shuffled and not, with and without a cache limit."""
    write_samples(folder, samples, 3_000)
    sample = StreamingDataset(local=str(folder), batch_size=BATCH)[0]
    settings = [
        (workers, shuffle, limit)
        for workers in (0, 2)
        for shuffle, limit in ((True, None), (False, None), (True, "10tb"))
    ]
    rates: dict[tuple[Any, str], list[float]] = {}
    floor: dict[int, list[float]] = {0: [], 2: []}
    for _ in track(range(rounds), "reading", console=Console(stderr=True)):
        for setting in settings:
            workers, shuffle, limit = setting
            for kind in KINDS:
                if kind == "memory map" and limit:
                    continue
                loader = make_loader(folder, kind, samples, workers, shuffle, limit)
                rates.setdefault((setting, kind), []).append(rate_of(loader))
        for workers, values in floor.items():
            count = samples // max(workers, 1)
            values.append(
                rate_of(
                    DataLoader(Ready(sample, count), BATCH, num_workers=workers, collate_fn=list)
                )
            )
    table = Table("workers", "shuffled", "cache limit", "stock", "selective", "x", "mapped", "x")
    table.title = f"Samples per second, {samples:,} of 3 kB, median of {rounds} rounds"

    def ratio(setting: Any, kind: str) -> float | None:
        if (setting, kind) not in rates:
            return None
        pairs = zip(rates[setting, kind], rates[setting, "stock"], strict=True)
        return statistics.median(mine / stock for mine, stock in pairs)

    for setting in settings:
        cells = [f"{setting[0]}", "yes" if setting[1] else "no", "yes" if setting[2] else "no"]
        cells.append(f"{statistics.median(rates[setting, 'stock']):,.0f}")
        for kind in KINDS[1:]:
            found = ratio(setting, kind)
            median = statistics.median(rates.get((setting, kind), [0.0]))
            cells += ["", ""] if found is None else [f"{median:,.0f}", f"{found:.2f}"]
        table.add_row(*cells)
    Console().print(table)
    for workers, values in floor.items():
        print(f"A loader of ready samples, {workers} workers: {statistics.median(values):,.0f}")
    return {
        "warm_vs_stock_w0": ratio((0, True, None), "selective"),
        "warm_vs_stock_w2": ratio((2, True, None), "selective"),
        "warm_mmap_vs_stock_w0": ratio((0, True, None), "memory map"),
        "warm_mmap_vs_stock_w2": ratio((2, True, None), "memory map"),
        "slowest_vs_stock": min(r for s in settings if (r := ratio(s, "selective")) is not None),
        "loader_alone_vs_stock_w2": statistics.median(floor[2])
        / statistics.median(rates[(2, True, None), "stock"]),
    }


def write_samples(folder: Path, count: int, size: int) -> None:
    """Shards of 4 MiB with incompressible samples."""
    rng = np.random.default_rng(0)
    columns = {"x": "bytes", "y": "int"}
    with MDSWriter(out=str(folder), columns=columns, size_limit=1 << 22) as writer:
        for i in range(count):
            writer.write({"x": rng.bytes(size), "y": i})


def make_loader(
    folder: Path, kind: str, samples: int, workers: int, shuffle: bool, limit: str | None
) -> DataLoader:
    """A loader over local shards; the limit is one that is never reached."""
    dataset = StreamingDataset(
        local=str(folder), batch_size=BATCH, shuffle=shuffle, cache_limit=limit
    )
    loader = DataLoader(dataset, BATCH, num_workers=workers, collate_fn=list)
    if kind != "stock":
        attachment = attach(dataset, loader, memory_map=kind == "memory map")
        attachment.serve(np.ones(samples, bool))
    return loader


def rate_of(loader: DataLoader) -> float:
    """Samples per second from the first batch to the last."""
    batches = iter(loader)
    next(batches)
    start = time.perf_counter()
    served = sum(len(batch) for batch in batches)
    return served / (time.perf_counter() - start)


# ---------------------------------------------------------------------- epoch boundary


def bench_boundary(folder: Path, samples: int, epochs: int = 7) -> dict[str, float | None]:
    """From the end of an epoch to the first batch of the next: select, plan, start, read."""
    samples = link_shards(folder, samples)
    half = np.random.default_rng(0).permutation(samples)[: samples // 2]
    table = Table("workers", "stock ms", "selective ms", "extra ms", "extra ns per sample")
    table.title = f"Epoch boundary, {samples:,} samples, half selected, median of {epochs} epochs"
    worst = -np.inf
    for persistent in (False, True):
        took: dict[str, list[float]] = {"stock": [], "selective": []}
        loaders = {}
        for kind in took:
            dataset = StreamingDataset(local=str(folder), batch_size=256, shuffle=True)
            loader = DataLoader(
                dataset, 256, num_workers=2, persistent_workers=persistent, collate_fn=len
            )
            loaders[kind] = (loader, attach(dataset, loader) if kind == "selective" else None)
        for _ in track(range(epochs + 1), "boundary", console=Console(stderr=True)):
            for kind, (loader, attachment) in loaders.items():
                start = time.perf_counter()
                if attachment is not None:
                    attachment.serve(half)
                batches = iter(loader)
                next(batches)
                took[kind].append(time.perf_counter() - start)
                del batches
        stock, selective = (statistics.median(took[kind][1:]) for kind in took)
        extra = selective - stock
        worst = max(worst, extra)
        table.add_row(
            "persistent" if persistent else "new in each epoch",
            f"{1e3 * stock:.1f}",
            f"{1e3 * selective:.1f}",
            f"{1e3 * extra:.1f}",
            f"{1e9 * extra / samples:.1f}",
        )
    Console().print(table)
    return {
        "boundary_extra_ns_per_sample": 1e9 * worst / samples,
        "boundary_extra_ms": 1e3 * worst,
    }


def link_shards(folder: Path, samples: int, per_shard: int = 1_280) -> int:
    """A large dataset whose shards are all the same file; gives its size, in whole shards."""
    with MDSWriter(out=str(folder), columns={"y": "int"}, size_limit=None) as writer:
        for i in range(per_shard):
            writer.write({"y": i})
    index = json.loads((folder / "index.json").read_text())
    shard = index["shards"][0]
    first = folder / shard["raw_data"]["basename"]
    index["shards"] = []
    shards = max(samples // per_shard, 1)
    for number in range(shards):
        name = f"shard.{number:06d}.mds"
        os.link(first, folder / name)
        index["shards"].append({**shard, "raw_data": {**shard["raw_data"], "basename": name}})
    (folder / "index.json").write_text(json.dumps(index))
    return shards * per_shard


# ---------------------------------------------------------------------- planning


def bench_planning(samples: int) -> dict[str, float | None]:
    """Plan an epoch of 8 ranks x 8 workers on one core, in a process of its own."""
    code = f"import bench_streaming; bench_streaming.plan({samples})"
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    seconds, gib = json.loads(output.splitlines()[-1])
    table = Table("step", "seconds")
    table.title = f"Planning {samples:,} samples, half selected, 64 workers, py1e, one core"
    for step, took in seconds.items():
        table.add_row(step, f"{took:.2f}")
    Console().print(table)
    print(f"Memory above the imports: {gib:.2f} GiB")
    scale = f"{samples // 1_000_000}m"
    return {f"plan_{scale}_seconds": sum(seconds.values()), f"plan_{scale}_gib": gib}


def plan(samples: int) -> None:
    """What a node's leading worker does before an epoch, and what it takes."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    per_shard = np.full(samples // 1_280, 1_280)
    dataset = SimpleNamespace(
        samples_per_shard=per_shard,
        batching_method="random",
        partition_algo="relaxed",
        num_canonical_nodes=1,
        initial_physical_nodes=None,
        batch_size=256,
        shuffle=True,
        shuffle_algo="py1e",
        shuffle_seed=9176,
        shuffle_block_size=4_000_000,
    )
    total = int(per_shard.sum())
    with tempfile.TemporaryDirectory() as folder:
        bits = np.random.default_rng(0).bytes(total // 8)
        store = SelectionStore(folder, total)
        store.publish_bits(np.frombuffer(bits, np.uint8), 0)
        del bits
        baseline = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = {}
        start = time.perf_counter()
        ids, _ = store.read(0)
        seconds["read the selection"] = time.perf_counter() - start
        start = time.perf_counter()
        work = generate_work(dataset, ids, World(1, 8, 8, 0), 3, 0)
        del ids
        seconds["shuffle and deal"] = time.perf_counter() - start
        start = time.perf_counter()
        shared = np.empty(work.shape, np.int64)
        np.copyto(shared, work)
        seconds["share with workers"] = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([seconds, (peak - baseline) / 2**20]))


if __name__ == "__main__":
    main()
