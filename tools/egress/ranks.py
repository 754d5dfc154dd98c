# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Ranks that stream selections from the store, in step, and what each epoch cost."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch.distributed as dist
from streaming import StreamingDataset
from torch.utils.data import DataLoader

from composer_dataagent.streaming import attach
from egress.samples import Shards, content_of, selected
from egress.server import LoopbackStore

RANKS = 2
WORKERS = 2
BATCH = 16
# Shards over which streaming shuffles at once.
_BLOCK_SHARDS = 4


@dataclass(frozen=True)
class Job:
    """Some epochs with an empty cache at first.

    Attributes:
        mode (str): ``stock``: samples anywhere, and whole shards are fetched. ``shards``: whole
            shards are selected and fetched. ``ranged``: samples anywhere, and they are fetched.
        shards (Shards): The data.
        ratio (float): Share of the samples that each epoch selects.
        epochs (int): How many.
        cache (float | None): Share of the data that may be kept on disk; ``None``: all of them.
        costs (str): Of ``attach``, for ``ranged``; JSON.
        latency (float): Seconds before the first byte of an answer.
        bandwidth (float | None): Bytes per second in total.
    """

    mode: str
    shards: Shards
    ratio: float
    epochs: int
    cache: float | None
    costs: str
    latency: float = 0.0
    bandwidth: float | None = None

    def selected(self, epoch: int) -> Any:
        """Sorted ids of an epoch."""
        return selected(self.shards, self.ratio, epoch, self.mode == "shards")


@dataclass(frozen=True)
class Epoch:
    """What an epoch cost.

    Attributes:
        seconds (float): Until the last rank had its last batch.
        first_batch (float): Seconds until the last rank had its first batch, from ``iter(loader)``
            on, with the selection published before.
        sent (int): Bytes that the store sent.
        least (int): Bytes of the selected samples and of the headers of their shards.
        requests (int): That the store answered.
        wrong (int): Samples with another sample's content or none, not selected, missing or served
            again (other than the padding that makes ranks equal).
    """

    seconds: float
    first_batch: float
    sent: int
    least: int
    requests: int
    wrong: int


def run_job(job: Job, store: LoopbackStore) -> list[Epoch]:
    """Run the epochs of a job on all ranks."""
    context = multiprocessing.get_context("forkserver")
    store.throttle()
    with tempfile.TemporaryDirectory() as folder:
        pipes: list[Connection] = []
        processes: list[BaseProcess] = []
        try:
            for rank in range(RANKS):
                ours, theirs = context.Pipe()
                arguments = (rank, job, store.environment, store.url(job.shards.name), folder)
                processes.append(context.Process(target=_rank, args=(*arguments, theirs)))
                processes[-1].start()
                theirs.close()
                pipes.append(ours)
            _receive(pipes)  # the index is there: only shards are counted
            store.throttle(job.latency, job.bandwidth)
            epochs = [_run_epoch(job, epoch, store, pipes) for epoch in range(job.epochs)]
            for process in processes:
                process.join()
        finally:
            for process in processes:
                process.kill()
                process.join()
    return epochs


def _run_epoch(job: Job, epoch: int, store: LoopbackStore, pipes: Sequence[Connection]) -> Epoch:
    store.reset()
    for pipe in pipes:
        pipe.send("go")
    results = _receive(pipes)
    counts = store.counts()
    ids = job.selected(epoch)
    served = Counter(sample_id for result in results for sample_id in result["ids"])
    repeated = served.total() - len(served) - (-len(ids) % RANKS)
    strange = set(served) ^ set(ids.tolist())
    return Epoch(
        seconds=max(result["seconds"] for result in results),
        first_batch=max(result["first_batch"] for result in results),
        sent=sum(traffic.sent for traffic in counts),
        least=job.shards.least(ids),
        requests=sum(traffic.requests for traffic in counts),
        wrong=sum(result["wrong"] for result in results) + len(strange) + max(repeated, 0),
    )


def _receive(pipes: Sequence[Connection]) -> list[Any]:
    try:
        return [pipe.recv() for pipe in pipes]
    except EOFError:
        raise RuntimeError("A rank ended early; what it said is above") from None


# ---------------------------------------------------------------------- a rank


def _rank(
    rank: int, job: Job, environment: dict[str, str], remote: str, folder: str, pipe: Connection
) -> None:
    os.environ |= environment
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(RANKS),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(RANKS),
    }
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS
    )
    per_shard = int(job.shards.counts.max())
    of_shard = per_shard if job.mode == "shards" else job.ratio * per_shard  # are selected
    limit = None if job.cache is None else int(job.cache * job.shards.total)
    dataset = StreamingDataset(
        remote=remote,
        local=f"{folder}/local",
        batch_size=BATCH,
        shuffle=True,
        # As small beside the data as they are beside data that one would stream.
        shuffle_block_size=max(int(_BLOCK_SHARDS * of_shard), BATCH),
        predownload=max(min(per_shard, 8 * BATCH), BATCH),
        cache_limit=limit,
    )
    loader = DataLoader(
        dataset,
        BATCH,
        num_workers=WORKERS,
        collate_fn=partial(_checked, job.shards.size),
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    more: dict[str, Any] = {}
    if job.mode == "ranged":
        more = {"fetch": "samples", "costs": json.loads(job.costs)}
    attachment = attach(dataset, loader, **more)
    pipe.send("ready")
    for epoch in range(job.epochs):
        pipe.recv()
        attachment.serve(job.selected(epoch))
        dist.barrier()
        pipe.send(_serve(loader))
    dist.barrier()  # the leader's shared memory must outlive the others
    dist.destroy_process_group()


def _serve(loader: Any) -> dict[str, Any]:
    """Run an epoch, and say how long it took and what was served."""
    ids, wrong, first_batch = [], 0, 0.0
    start = time.perf_counter()
    for batch in loader:
        first_batch = first_batch or time.perf_counter() - start
        served = loader.sample_ids.tolist()
        wrong += sum(mine != its for mine, its in zip(batch, served, strict=True))
        ids += served
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "first_batch": first_batch, "ids": ids, "wrong": wrong}


def _checked(size: int, samples: Sequence[dict[str, Any]]) -> list[int]:
    """Ids of a batch, -1 for each sample that has another content than its; in the worker."""
    ids = [int(sample["id"]) for sample in samples]
    return [
        sample_id if sample_id >= 0 and sample["x"] == content_of(sample_id, size) else -1
        for sample_id, sample in zip(ids, samples, strict=True)
    ]
