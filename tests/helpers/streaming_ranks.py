# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Several ranks that stream the same shards, each in a process of its own."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from forked_ranks import join, start
from mds_samples import checked_ids, make_attached, make_dataset, make_loader, served
from streaming import StreamingDataLoader

from composer_dataagent.streaming import attach


def _spawn(function: Any, ranks: int, arguments: Sequence[Any]) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        start(function, ranks, folder, *arguments)
        return [torch.load(Path(folder, f"{rank}.pt"), weights_only=False) for rank in range(ranks)]


def _rank(rank: int, ranks: int, folder: str, shards: str, workers: int, selections: Any) -> None:
    join(rank, ranks, Path(folder, "rendezvous"))
    # As under a launcher; here it would be the way in which this process was started.
    context = "fork" if workers else None
    loader: Any = make_loader(
        make_dataset(shards),
        StreamingDataLoader,
        num_workers=workers,
        multiprocessing_context=context,
    )
    result: Any = []
    try:
        for of_ranks in selections:
            selected = of_ranks[rank] if isinstance(of_ranks, dict) else of_ranks
            if selected is not None:
                attach(loader.dataset, loader).serve(selected)
            length = len(loader)
            dist.barrier()
            batches = list(loader) if selected is None else served(loader)
            result.append((length, batches))
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    torch.save(result, f"{folder}/{rank}.pt")
    dist.barrier()  # the leader's shared memory must outlive the others
    dist.destroy_process_group()


def run_ranks(shards: str, *, ranks: int, workers: int, selections: Sequence[Any]) -> list[Any]:
    """Run an epoch for each selection on every rank of one node.

    Args:
        shards: Folder of the MDS shards.
        ranks: How many.
        workers: Of each rank's loader.
        selections: Ids, the same on every rank, or ids by rank; a rank with ``None`` does not
            attach.

    Returns:
        For each rank: for each epoch ``len(loader)`` and the ids of its batches; or the error.
    """
    return _spawn(_rank, ranks, (shards, workers, list(selections)))


def run_part(
    shards: str,
    *,
    ranks: int,
    workers: int,
    global_batch: int,
    selections: Sequence[Any],
    state: dict[str, Any] | None = None,
    stop: tuple[int, int] | None = None,
) -> tuple[list[list[list[int]]], dict[str, Any]]:
    """Run epochs in a plain PyTorch loop, or a part of them.

    Args:
        shards: Folder of the MDS shards.
        ranks: How many.
        workers: Of each rank's loader.
        global_batch: Samples per step over all ranks.
        selections: Ids of each epoch.
        state: Go on from here; what an earlier part gave.
        stop: Epoch, and number of batches of it after which to stop. Default: at the end of all.

    Returns:
        For each epoch the ids of each step over all ranks, sorted; and the loader's state.
    """
    arguments = (shards, workers, global_batch, list(selections), state, stop)
    results = _spawn(_part, ranks, arguments)
    states = [state for _, state in results]
    assert all(other == states[0] for other in states)
    epochs = [
        [sorted(itertools.chain(*step)) for step in zip(*of_ranks, strict=True)]
        for of_ranks in zip(*(epochs for epochs, _ in results), strict=True)
    ]
    return epochs, states[0]


def _part(
    rank: int,
    ranks: int,
    folder: str,
    shards: str,
    workers: int,
    global_batch: int,
    selections: list[Any],
    state: dict[str, Any] | None,
    stop: tuple[int, int] | None,
) -> None:
    join(rank, ranks, Path(folder, "rendezvous"))
    batch_size = global_batch // ranks
    attachment, loader = make_attached(
        shards,
        dataset={"batch_size": batch_size, "num_canonical_nodes": 4},
        batch_size=batch_size,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    streaming: Any = loader
    if state is not None:
        streaming.load_state_dict(state)
    epochs = []
    for epoch in range(attachment.upcoming_epoch(), len(selections)):
        attachment.serve(selections[epoch])
        dist.barrier()
        epochs.append([])
        for batch in loader:
            epochs[-1].append(checked_ids(loader, batch))
            if stop == (epoch, len(epochs[-1])):
                break
        else:
            if stop != (epoch, -1):  # the epoch's end
                continue
        break
    torch.save((epochs, json.loads(json.dumps(streaming.state_dict()))), f"{folder}/{rank}.pt")
    dist.barrier()  # the leader's shared memory must outlive the others
    dist.destroy_process_group()
