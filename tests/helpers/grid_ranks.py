# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Ranks that run one setting of dataset and loader after another, on one node or on two."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from forked_ranks import join, start
from mds_samples import BATCH, draw, make_attached, served, write_streams
from streaming import Stream
from streaming.base.shared import prefix
from streaming_memory import released_shared_memory
from torch.utils.data import DataLoader

STREAMS = ((40, 11, 33), (7, 50, 29, 3), (60, 20))
NUM_SAMPLES = sum(map(sum, STREAMS))
EPOCHS = 3
# Odd, so that there is padding.
SIZES = (NUM_SAMPLES, 101, 67)


@dataclass(frozen=True)
class Cell:
    """A setting.

    Attributes:
        workers: Per rank.
        persistent: Whether workers live from epoch to epoch.
        shuffle: The algorithm, or None for the order of ids.
        batching: Streaming's ``batching_method``.
        small_cache: Whether the cache holds a part of the shards only.
        drop_last: Of the loader.
    """

    workers: int
    persistent: bool
    shuffle: str | None
    batching: str
    small_cache: bool
    drop_last: bool

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())


def whole_grid() -> list[Cell]:
    """Every combination; workers that are not there cannot be persistent."""
    cells = itertools.starmap(
        Cell,
        itertools.product(
            (0, 2),
            (False, True),
            (None, "py1e", "py1br", "py1s", "naive"),
            ("random", "stratified", "per_stream"),
            (False, True),
            (False, True),
        ),
    )
    return [cell for cell in cells if cell.workers or not cell.persistent]


def covering_part() -> list[Cell]:
    """Cells in which every value of each setting meets every value of each other."""
    cells = whole_grid()
    np.random.default_rng(1).shuffle(cells)  # type: ignore[arg-type]
    wanted = set().union(*map(_pairs, cells))
    chosen = []
    while wanted:
        chosen.append(max(cells, key=lambda cell: len(_pairs(cell) & wanted)))
        wanted -= _pairs(chosen[-1])
    return chosen


def _pairs(cell: Cell) -> set[Any]:
    values = [(field.name, getattr(cell, field.name)) for field in fields(Cell)]
    return set(itertools.combinations(values, 2))


def failures_of(cells: Sequence[Cell], *, ranks: int, nodes: int = 1) -> list[str]:
    """Run epochs in every cell; give a line for each that did not serve what was selected.

    Args:
        cells: What to run, one after the other.
        ranks: Processes in all.
        nodes: Groups of them that have nothing in common but the remote.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_streams(Path(folder, "remote"), STREAMS)
        start(_rank, ranks, nodes, folder, list(cells))
        results = [torch.load(Path(folder, f"{r}.pt"), weights_only=False) for r in range(ranks)]
    return [
        f"{cell}: {wrong}"
        for at, cell in enumerate(cells)
        for wrong in _check(cell, [of_rank[at] for of_rank in results])
    ]


def selections(at: int) -> Iterator[np.ndarray]:
    """The ids of each epoch."""
    for epoch, size in enumerate(SIZES):
        yield draw(size, 100 * at + epoch, NUM_SAMPLES)


def _check(cell: Cell, results: list[Any]) -> Iterator[str]:
    ranks = len(results)
    for epoch in range(EPOCHS):
        lengths = {of_rank[epoch][0] for of_rank in results}
        batches = [of_rank[epoch][1] for of_rank in results]
        selected = set(results[0][epoch][2])
        sizes = [[len(batch) for batch in of_rank] for of_rank in batches]
        if len(lengths) > 1 or any(other != sizes[0] for other in sizes):
            yield f"epoch {epoch}: ranks differ in their batches, {lengths}, {sizes}"
        counts = Counter(i for of_rank in batches for batch in of_rank for i in batch)
        missing = len(selected - set(counts))
        # Each worker keeps an incomplete batch back.
        kept_back = ranks * max(cell.workers, 1) * (BATCH - 1) if cell.drop_last else 0
        if set(counts) - selected or missing > kept_back:
            yield f"epoch {epoch}: {missing} missing, {len(set(counts) - selected)} not selected"
        again = counts.total() - len(counts)
        if again > -len(selected) % ranks:
            yield f"epoch {epoch}: {again} served again"


def _rank(rank: int, ranks: int, nodes: int, folder: str, cells: list[Cell]) -> None:
    join(rank, ranks, Path(folder, "rendezvous"), nodes)
    node = os.environ["NODE_RANK"]
    # What belongs to a machine: names of shared memory, and the folder of locks.
    prefix._each_prefix_int = lambda: itertools.count(1_000 * int(node))
    tempfile.tempdir = f"{folder}/tmp-{node}"
    os.makedirs(tempfile.tempdir, exist_ok=True)
    results = []
    for at, cell in enumerate(cells):
        with released_shared_memory():
            try:
                results.append(_run(cell, at, folder, f"{at}-{node}"))
            except Exception as error:
                # The ranks are out of step from here on.
                raise AssertionError(f"rank {rank} in {cell}") from error
            dist.barrier()  # the leader's shared memory must outlive the others
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def _run(cell: Cell, at: int, folder: str, local: str) -> list[Any]:
    streams = [
        Stream(remote=f"{folder}/remote/stream-{i}", local=f"{folder}/local-{local}/{i}")
        for i in range(len(STREAMS))
    ]
    attachment, loader = make_attached(
        None,
        loader_cls=DataLoader,
        dataset={
            "streams": streams,
            "shuffle": cell.shuffle is not None,
            "shuffle_algo": cell.shuffle or "py1e",
            "batching_method": cell.batching,
            "num_canonical_nodes": 64,
            "predownload": BATCH,
            "cache_limit": _part_of_the_data(folder) if cell.small_cache else None,
        },
        num_workers=cell.workers,
        persistent_workers=cell.persistent,
        drop_last=cell.drop_last,
        # As under a launcher; here it would be the way in which this process was started.
        multiprocessing_context="fork" if cell.workers else None,
    )
    result = []
    for selected in selections(at):
        attachment.serve(selected)
        length = len(loader)
        dist.barrier()
        result.append((length, served(loader), selected.tolist()))
    return result


def _part_of_the_data(folder: str) -> int:
    files = [path.stat().st_size for path in Path(folder, "remote").rglob("*.mds")]
    index = sum(path.stat().st_size for path in Path(folder, "remote").rglob("index.json"))
    return index + 2 * sum(files) // 3
