# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Kill a run of several ranks with SIGKILL, again and again, and count what it served.

    \b
    python tools/soak_streaming.py                  100 kills of 2 ranks x 2 workers
    python tools/soak_streaming.py --kills 10
    python tools/soak_streaming.py --fetch samples  ranges of shards instead of whole ones

A plain PyTorch loop over a selection that is new in each epoch; every few steps it saves the
loader's state. A kill hits all ranks and workers at once, or one process, whereupon the launcher
kills the rest. What was served after the last save is forgotten, as a training run forgets it.
Ends with one line of JSON; the exit code is 1 if a sample was lost or doubled. (The shared memory
of the killed runs stays until then, which Python's resource tracker remarks on.)
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import Progress
from streaming import MDSWriter, StreamingDataLoader, StreamingDataset

from composer_dataagent.streaming import attach
from composer_dataagent.streaming.costs import Costs

SAMPLES = 3_001
BATCH = 8
SAVE_EVERY = 5
FETCHES = ("shards", "samples")


@dataclass(frozen=True)
class How:
    """What all runs have in common; see the options."""

    ranks: int
    workers: int
    fetch: str
    cache_limit: str | None


@click.command(help=__doc__)
@click.option("--kills", default=100, show_default=True, type=click.IntRange(1))
@click.option("--ranks", default=2, show_default=True, type=click.IntRange(1))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(0))
@click.option("--seed", default=0, show_default=True, help="Of the moments and of the victims.")
@click.option("--fetch", type=click.Choice(FETCHES), default=FETCHES[0], show_default=True)
@click.option("--cache-limit", help="Of the dataset, as 200kb.  [default: none]")
def main(
    kills: int, ranks: int, workers: int, seed: int, fetch: str, cache_limit: str | None
) -> None:
    """Run, kill, run again; then let the last epoch end and count."""
    draw = random.Random(seed)
    multiprocessing.set_forkserver_preload(["composer_dataagent.streaming"])
    how = How(ranks, workers, fetch, cache_limit)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder, "remote"))
        start = time.monotonic()
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("kills", total=kills)
            for kill in range(kills):
                run(folder, how, kill, until=draw)
                progress.advance(task)
        run(folder, how, kills, until=None)
        figures = count(folder, ranks) | {"kills": kills, "seconds": time.monotonic() - start}
    print(json.dumps(figures))
    sys.exit(1 if figures["lost"] or figures["doubled"] or not figures["steps"] else 0)


def selected(epoch: int) -> np.ndarray:
    """Half of the samples, others in each epoch; an odd number, so that ranks need padding."""
    return np.random.default_rng(epoch).permutation(SAMPLES)[: SAMPLES // 2 + 1]


def write_shards(folder: Path) -> None:
    """About 40 shards."""
    with MDSWriter(out=str(folder), columns={"id": "int"}, size_limit=1_000) as writer:
        for i in range(SAMPLES):
            writer.write({"id": i})


# ---------------------------------------------------------------------- the launcher


def run(folder: str, how: How, number: int, until: random.Random | None) -> None:
    """Start all ranks from what was saved last; end them by force, unless ``until`` is None."""
    context = multiprocessing.get_context("forkserver")
    arguments = (how, folder, number, until is None)
    processes = [context.Process(target=rank_of, args=(r, *arguments)) for r in range(how.ranks)]
    for process in processes:
        process.start()
    if until is not None:
        # From before the datasets are there to far into an epoch: by time, and by what was done,
        # since a busy machine may need all that time to begin.
        if until.random() < 0.5:
            time.sleep(until.uniform(0, 3))
        else:
            wait_for(Path(folder, "0.jsonl"), until.randint(1, 120), processes)
        family = [psutil.Process(process.pid) for process in processes if process.is_alive()]
        members = [each for parent in family for each in [parent, *parent.children()]]
        if members and until.random() < 0.5:
            with contextlib.suppress(psutil.NoSuchProcess):
                until.choice(members).kill()
            time.sleep(until.uniform(0, 0.2))  # what the others do meanwhile
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.kill()  # where it has no group of its own yet
    for process in processes:
        process.join()
    if until is not None:
        release_folders(folder)
    for process in processes:
        if until is None and process.exitcode:
            said = "\n".join(path.read_text() for path in Path(folder).glob("*.txt"))
            raise SystemExit(f"{said}\nA rank ended with exit code {process.exitcode}")


def wait_for(log: Path, steps: int, processes: Sequence[BaseProcess]) -> None:
    """Wait until a rank has done some more steps, or one has ended."""

    def done() -> int:
        return log.read_bytes().count(b"\n") if log.exists() else 0

    before = done()
    while done() < before + steps and all(process.is_alive() for process in processes):
        time.sleep(0.01)


def release_folders(folder: str) -> None:
    """Let the next run use the folder of one that was killed before it had its file locks.

    Streaming refuses a folder that another run has. The resource tracker of a killed run removes
    the entry; but that of these ranks is their launcher's, which lives on.
    """
    for entry in Path("/dev/shm").glob("*_locals"):
        with contextlib.suppress(OSError):  # another user's, or gone
            if folder.encode() in entry.read_bytes():
                entry.unlink()


def count(folder: str, ranks: int) -> dict[str, int]:
    """Go through what all ranks wrote down of the steps that count."""
    lost = doubled = steps = 0
    served: dict[int, Counter[int]] = {}
    for rank in range(ranks):
        valid: list[tuple[tuple[int, int], list[int]]] = []
        for line in Path(folder, f"{rank}.jsonl").read_text().splitlines():
            epoch, step, ids = json.loads(line)
            # A step that was done again, after a kill, is what counts; and all later ones go.
            while valid and valid[-1][0] >= (epoch, step):
                valid.pop()
            valid.append(((epoch, step), ids))
        steps += len(valid)
        for (epoch, _), ids in valid:
            served.setdefault(epoch, Counter()).update(ids)
    for epoch, counts in served.items():
        wanted = set(selected(epoch).tolist())
        lost += len(wanted - set(counts))
        # An odd number over ranks: some of the last are served twice, so that ranks are equal.
        doubled += max(0, counts.total() - len(wanted) - (-len(wanted) % ranks))
        doubled += len(set(counts) - wanted)
    return {"epochs": len(served), "steps": steps // ranks, "lost": lost, "doubled": doubled}


# ---------------------------------------------------------------------- a rank


def rank_of(rank: int, how: How, folder: str, number: int, to_the_end: bool) -> None:
    """Go on from the state that was saved last."""
    os.setsid()  # so that a kill can take the workers along
    out = open(f"{folder}/{rank}.txt", "w")  # noqa: SIM115  # until the process ends
    os.dup2(out.fileno(), 1)
    os.dup2(out.fileno(), 2)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(how.ranks),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(how.ranks),
    }
    launcher = multiprocessing.parent_process()
    assert launcher is not None
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous-{number}",
        rank=rank,
        world_size=how.ranks,
    )
    dataset = StreamingDataset(
        remote=f"{folder}/remote",
        local=f"{folder}/local-{number // 25}",  # now and then an empty cache
        batch_size=BATCH,
        shuffle=True,
        predownload=4 * BATCH,
        cache_limit=how.cache_limit,
    )
    loader = StreamingDataLoader(
        dataset,
        batch_size=BATCH,
        num_workers=how.workers,
        multiprocessing_context="fork" if how.workers else None,
    )
    # The samples are so small that whole shards would be cheaper at any price of a request.
    costs = Costs(dollars_per_million_requests=0)
    attachment = attach(dataset, loader, fetch=how.fetch, costs=costs)
    epoch, step = 0, 0
    saved = Path(folder, "saved.json")
    if saved.exists():
        state = json.loads(saved.read_text())
        epoch, step = state["epoch"], state["step"]
        loader.load_state_dict(state["loader"])
    dist.barrier()  # all have read it
    with open(f"{folder}/{rank}.jsonl", "a") as log:
        while True:
            attachment.serve(selected(epoch))
            attachment.fetch_ahead()
            dist.barrier()
            for batch in loader:
                if not launcher.is_alive():
                    return
                step += 1
                ids = loader.sample_ids.tolist()  # type: ignore[attr-defined]
                assert batch["id"].tolist() == ids
                log.write(json.dumps([epoch, step, ids]) + "\n")
                log.flush()
                if step % SAVE_EVERY == 0:
                    save(saved, rank, epoch, step, loader.state_dict())
            epoch, step = epoch + 1, 0
            save(saved, rank, epoch, step, loader.state_dict())
            if to_the_end:
                break
    dist.destroy_process_group()


def save(path: Path, rank: int, epoch: int, step: int, state: Any) -> None:
    """Save once all ranks have come as far: nothing that a rank has not served is passed over."""
    dist.barrier()
    if rank == 0:
        beside = path.with_suffix(".part")
        beside.write_text(json.dumps({"epoch": epoch, "step": step, "loader": state}))
        beside.replace(path)


if __name__ == "__main__":
    main()
