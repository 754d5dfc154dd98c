# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What it takes to tell downloads from an index: seconds, and memory beside the selection.

A random half of many samples in shards of 1,280 is mapped to what is read of each shard, as sorted
ids, as a bitmap, and as a bitmap with another random half held already; and 90 epochs of a run over
them are simulated.

    \b
    python tools/bench_plan.py
    python tools/bench_plan.py --samples 1000000000

Seconds are the least of three. Ends with one JSON line.
"""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from composer_dataagent.streaming.egress import ShardSizes, map_reads
from composer_dataagent.streaming.forecast import forecast, some_shards
from composer_dataagent.streaming.shard_index import ids_of

SAMPLES_PER_SHARD = 1280
EPOCHS = 90


def sizes_of(samples: int, sample_bytes: int) -> ShardSizes:
    """Equal shards; only numbers, no data."""
    count = np.full(max(samples // SAMPLES_PER_SHARD, 1), SAMPLES_PER_SHARD, np.int64)
    raw = count * sample_bytes + 4 * (count + 2)
    ones = np.ones(len(count), np.int64)
    return ShardSizes(count, raw, raw, ones.astype(bool), ones)


def measure(work: Callable[[], object], repeats: int = 3) -> tuple[float, float]:
    """Seconds, and megabytes at most."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()  # slow: not while the time counts
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return min(seconds), peak / 1e6


@click.command()
@click.option("--samples", multiple=True, type=int, default=(10_000_000, 100_000_000))
@click.option("--sample-bytes", default=4096, show_default=True)
def main(samples: tuple[int, ...], sample_bytes: int) -> None:
    """Measure mapping and simulation."""
    table = Table("samples", "what", "seconds", "MB", box=None)
    figures = []
    for wanted in samples:
        sizes = sizes_of(wanted, sample_bytes)
        count = (sizes.num_samples + 7) // 8
        rng = np.random.default_rng(0)
        bits, held = (rng.integers(0, 256, count, np.uint8) for _ in range(2))
        ids = ids_of(bits, sizes.num_samples)
        part = sizes.some(some_shards(sizes, 0))
        cases: dict[str, tuple[Callable[[], object], int]] = {
            "map ids": (lambda s=sizes, i=ids: map_reads(i, s), 3),
            "map a bitmap": (lambda s=sizes, b=bits: map_reads(b, s), 3),
            "map with half held": (lambda s=sizes, b=bits, h=held: map_reads(b, s, held=h), 3),
            f"simulate {EPOCHS} epochs": (lambda p=part: forecast(p, [0.5] * EPOCHS), 1),
        }
        for name, (work, repeats) in cases.items():
            seconds, megabytes = measure(work, repeats)
            figures.append(
                {
                    "samples": sizes.num_samples,
                    "what": name,
                    "seconds": round(seconds, 3),
                    "megabytes": round(megabytes, 1),
                }
            )
            table.add_row(f"{sizes.num_samples:,}", name, f"{seconds:.2f}", f"{megabytes:.1f}")
    Console().print(table)
    click.echo(json.dumps(figures))


if __name__ == "__main__":
    main()
