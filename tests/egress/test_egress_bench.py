# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``tools/bench_egress.py`` as a command, and that its check of samples is not blind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from egress.ranks import Job, run_job
from egress.samples import content_of, selected, write_shards
from egress.server import loopback_store

BENCH = Path(__file__).parents[2] / "tools" / "bench_egress.py"


def test_the_tool_counts_and_times_all_modes() -> None:
    smallest = "--sizes 4 --ratios 0.5 --time-sizes 16 --time-ratios 0.5 --latency 0.001"
    smallest += " --megabytes 2 --shard-megabytes 0.2 --epochs 2 --repeats 1"
    run = subprocess.run(
        [sys.executable, BENCH, *smallest.split()], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    assert figures["wrong_samples"] == 0
    assert figures["epochs"] == 2 * 2 * 3 * 2  # parts, caches, modes, epochs
    # Always there, also where the command left them out.
    for name in ("bytes_vs_selected_16k_r50", "bytes_vs_selected_100k_r50"):
        assert figures[name] is None
    assert figures["epoch_time_vs_stock_r30"] is None
    for name in ("epoch_time_vs_stock_r50", "first_batch_vs_stock_r50"):
        assert figures[name] > 0
        assert figures[f"shards_{name}"] > 0
    for cache in ("", "_small_cache"):
        assert figures[f"dollars_vs_stock_4k_r50{cache}"] > 0
    # All of the data for half of the samples.
    assert 1.9 < figures["stock_bytes_vs_selected_4k_r50"] < 2.1
    # One shard is selected in part only.
    assert 1 <= figures["shards_bytes_vs_selected_4k_r50"] < 1.3
    assert 1 <= figures["bytes_vs_selected_4k_r50"] < figures["stock_bytes_vs_selected_4k_r50"]


def test_a_wrong_sample_is_counted(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "data", 4_000, 400_000, 50_000)
    job = Job("stock", shards, 1.0, 1, None, "{}")
    spoiled = 57
    for path in (tmp_path / "data").glob("*.mds"):
        content = path.read_bytes()
        other = content.replace(content_of(spoiled, 4_000)[-100:], bytes(100))
        if other != content:
            path.write_bytes(other)
    with loopback_store(tmp_path) as store:
        (epoch,) = run_job(job, store)
    assert (epoch.wrong, epoch.sent) == (1, shards.total)


def test_selections_are_of_the_size_that_was_asked_for(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "data", 1_000, 200_000, 20_000)
    assert shards.num_samples == 200
    headers = sum(4 * (count + 2) for count in shards.counts.tolist())
    assert shards.least(np.arange(200)) == int(shards.content.sum()) + headers < shards.total
    ends = np.cumsum(shards.counts)
    for whole_shards in (False, True):
        ids = selected(shards, 0.3, 0, whole_shards)
        assert len(np.unique(ids)) == len(ids) == 60
        assert not np.array_equal(ids, selected(shards, 0.3, 1, whole_shards))
        hits = np.bincount(np.searchsorted(ends, ids, side="right"), minlength=len(ends))
        in_part = ((hits > 0) & (hits < shards.counts)).sum()
        assert in_part <= 1 if whole_shards else in_part > len(ends) / 2
