# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Epochs in processes that are killed when they hang, so that a test of a fault always ends."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import pickle
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from traceback import clear_frames, format_exc
from typing import Any

import torch
import torch.distributed as dist
from forked_ranks import forkserver
from mds_samples import (
    NUM_SAMPLES,
    checked_ids,
    columns_of,
    make_attached,
    make_dataset,
    make_loader,
)
from streaming import StreamingDataLoader, StreamingDataset
from streaming_memory import released_shared_memory

Action = Callable[[], object]
# Far more than any run takes: who hangs, hangs for good.
PATIENCE = 150.0


@dataclass(frozen=True)
class Epoch:
    """An epoch, and what happens to it.

    Attributes:
        selected (Sequence[int]): The sample ids to serve.
        before (Action | None): Done by one rank before the epoch, while the others wait.
        during (Action | None): Done by one rank after its first batch.
        by (int): That rank.
    """

    selected: Sequence[int] = range(NUM_SAMPLES)
    before: Action | None = None
    during: Action | None = None
    by: int = 0


@dataclass(frozen=True)
class Outcome:
    """What an epoch came to on one rank.

    Attributes:
        batches (list[list[int]]): The sample ids of the batches that came, contents checked.
        error (str): Type and message of what ended it; empty if it was not ended.
    """

    batches: list[list[int]]
    error: str = ""


@dataclass(frozen=True)
class Job:
    """What a rank has to do. See :func:`run_epochs`."""

    epochs: Sequence[Epoch]
    dataset: Mapping[str, Any]
    dataset_cls: type[StreamingDataset]
    loader: Mapping[str, Any]
    attach: Mapping[str, Any]
    ranks: int
    environment: Mapping[str, str]
    stock: bool
    ends_at_error: bool
    folder: str


class Hung(AssertionError):
    """A run did not end and was killed.

    Attributes:
        outcomes (list[list[Outcome]]): What it came to before.
    """

    def __init__(self, message: str, outcomes: list[list[Outcome]]) -> None:
        super().__init__(message)
        self.outcomes = outcomes


def run_epochs(
    *epochs: Epoch,
    dataset: Mapping[str, Any],
    dataset_cls: type[StreamingDataset] = StreamingDataset,
    attach: Mapping[str, Any] | None = None,
    ranks: int = 1,
    environment: Mapping[str, str] | None = None,
    stock: bool = False,
    ends_at_error: bool = False,
    leaves_workers: bool = False,
    patience: float = PATIENCE,
    **loader: Any,
) -> list[list[Outcome]]:
    """Run epochs over one dataset and loader, on every rank of one node.

    Where they cannot be made, this is the outcome of the epoch, and the next one tries again.

    Args:
        *epochs: Done one after the other.
        dataset: Arguments of the StreamingDataset.
        dataset_cls: Its class; one that can be imported.
        attach: More arguments of ``attach``.
        ranks: How many processes.
        environment: Variables to set in all of them.
        stock: Leave the dataset as it is, so that nothing is selected.
        ends_at_error: A rank does not go on after an error, but ends with it.
        leaves_workers: Wait for the workers too, of ranks that are killed.
        patience: Seconds until all of it is killed.
        **loader: Arguments of the StreamingDataLoader.

    Returns:
        For each rank the outcome of each epoch, and one more if its process was ended.

    Raises:
        Hung: It did not end; the message shows where it was.
    """
    with tempfile.TemporaryDirectory() as folder:
        variables = environment or {}
        job = Job(
            epochs,
            dataset,
            dataset_cls,
            loader,
            attach or {},
            ranks,
            variables,
            stock,
            ends_at_error,
            folder,
        )
        context = forkserver()
        processes = [context.Process(target=_rank, args=(rank, job)) for rank in range(ranks)]
        for process in processes:
            process.start()
        end = time.monotonic() + patience
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
        while leaves_workers and time.monotonic() < end and any(map(_lives, processes)):
            time.sleep(0.05)
        lives = _lives if leaves_workers else BaseProcess.is_alive
        hung = [rank for rank, process in enumerate(processes) if lives(process)]
        if hung:
            _kill(processes, signal.SIGUSR1)  # they write down where they are
            time.sleep(2)
        _kill(processes, signal.SIGKILL)  # also workers that outlived their rank
        for process in processes:
            process.join()
        outcomes = [_outcomes(folder, rank) for rank in range(ranks)]
        if hung:
            written = [path for rank in hung for path in Path(folder).glob(f"{rank}.*.txt")]
            text = "\n\n".join(f"{path.name}:\n{path.read_text()}" for path in sorted(written))
            raise Hung(f"hung until it was killed: ranks {hung}\n\n{text}", outcomes)
        for of_rank, process in zip(outcomes, processes, strict=True):
            if process.exitcode:
                of_rank.append(Outcome([], f"ended with exit code {process.exitcode}"))
        return outcomes


def _lives(process: Any) -> bool:
    """Whether a rank lives, or a worker that it left."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _kill(processes: Sequence[Any], number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _outcomes(folder: str, rank: int) -> list[Outcome]:
    path = Path(folder, f"{rank}.outcomes")
    return pickle.loads(path.read_bytes()) if path.exists() else []


# ------------------------------------------------------------------ actions


def kill_a_worker() -> None:
    """Kill one of this rank's workers."""
    pid = multiprocessing.active_children()[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def kill_this_rank() -> None:
    """Kill this process, but not its workers."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_this_run() -> None:
    """Kill this process and its workers at once."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


# ------------------------------------------------------------------ in the process of a rank


def _rank(rank: int, job: Job) -> None:
    os.setsid()  # so that all of it can be killed at once

    def write_apart() -> None:
        out = open(f"{job.folder}/{rank}.{os.getpid()}.txt", "w")  # noqa: SIM115
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        faulthandler.register(signal.SIGUSR1, out, all_threads=True)

    write_apart()
    os.register_at_fork(after_in_child=write_apart)
    os.environ |= job.environment
    torch.set_num_threads(1)
    if job.ranks > 1:
        os.environ |= {
            "RANK": str(rank),
            "WORLD_SIZE": str(job.ranks),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(job.ranks),
        }
        dist.init_process_group(
            "gloo",
            init_method=f"file://{job.folder}/rendezvous",
            rank=rank,
            world_size=job.ranks,
            timeout=timedelta(seconds=PATIENCE),
        )
    with released_shared_memory():
        _run(rank, job)
        _meet(job)  # the leader's shared memory must outlive the others
    if job.ranks > 1:
        dist.destroy_process_group()


def _run(rank: int, job: Job) -> None:
    outcomes: list[Outcome] = []
    made: Any = None
    for number, epoch in enumerate(job.epochs):
        batches: list[list[int]] = []
        error = ""
        try:
            if number == 0:
                made = _make(job)
            _meet(job)
            if epoch.before is not None and epoch.by == rank:
                epoch.before()
            _meet(job)
            if made is None:
                made = _make(job)
            attachment, loader = made
            if attachment is not None:
                attachment.serve(epoch.selected)
            for batch in loader:
                batches.append(_ids(job, loader, batch))
                if len(batches) == 1 and epoch.during is not None and epoch.by == rank:
                    epoch.during()
        except Exception as caught:
            error = f"{type(caught).__name__}: {caught}"
            if isinstance(caught, AssertionError):  # what was served is not what it should be
                error = format_exc()
            clear_frames(caught.__traceback__)  # they hold the loader; see mds_samples
        outcomes.append(Outcome(batches, error))
        # Moved to its place, since this process may be killed.
        path = Path(job.folder, f"{rank}.outcomes")
        path.with_suffix(".part").write_bytes(pickle.dumps(outcomes))
        path.with_suffix(".part").replace(path)
        if error and job.ends_at_error:
            os._exit(1)


def _make(job: Job) -> tuple[Any, Any]:
    loader: dict[str, Any] = dict(job.loader)
    if loader.get("num_workers"):
        # As under a launcher; here it would be the way in which this process was started.
        loader["multiprocessing_context"] = "fork"
    arguments: dict[str, Any] = {"local": None, **job.dataset}
    if job.stock:
        shards = arguments.pop("local")
        made = make_dataset(shards, job.dataset_cls, **arguments)
        return None, make_loader(made, StreamingDataLoader, **loader)
    shards = arguments.pop("local")
    return make_attached(
        shards, job.dataset_cls, dataset=arguments, attach_with=job.attach, **loader
    )


def _ids(job: Job, loader: Any, batch: Any) -> list[int]:
    if not job.stock:
        return checked_ids(loader, batch)
    ids = batch["id"].tolist()
    assert batch["x"].tolist() == [columns_of(sample_id)["x"] for sample_id in ids]
    return ids


def _meet(job: Job) -> None:
    if job.ranks > 1:
        dist.barrier()
