# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Jobs that start on one machine in the same instant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forked_ranks import forkserver
from mds_samples import write_shards

from composer_dataagent.recipes.config import LoaderConfig
from composer_dataagent.recipes.data import build_loader

JOBS = 3
LOADERS = 15


def job(number: int, shards: str, start: Any, failures: Any) -> None:
    """Make loaders in step with the others; nothing is read."""
    loaders = []
    for at in range(LOADERS):
        folder = f"{shards}/{number}-{at}"
        dataset = {"name": "image_classification", "local": folder, "image": "x", "label": "id"}
        config = LoaderConfig(dataset=dataset, batch_size=4)
        start.wait()
        try:
            loaders.append(build_loader("train_loader", config, train=True, seed=0))
        except Exception as error:
            failures.put(repr(error))


def test_no_job_takes_anothers_shared_memory(tmp_path: Path) -> None:
    for number in range(JOBS):
        for at in range(LOADERS):
            write_shards(tmp_path / f"{number}-{at}", [5])
    context = forkserver()
    start, failures = context.Barrier(JOBS), context.Queue()
    arguments = [(number, str(tmp_path), start, failures) for number in range(JOBS)]
    processes = [context.Process(target=job, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * JOBS
    assert failures.empty(), failures.get()
