# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Several ranks that stream the same shards, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mds_samples import make_attached, served


def _rank(rank: int, ranks: int, folder: str, shards: str, workers: int, selections: Any) -> None:
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(ranks),
    }
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks
    )
    # As under a launcher; here it would be the way in which this process was started.
    context = "fork" if workers else None
    attachment, loader = make_attached(shards, num_workers=workers, multiprocessing_context=context)
    result: Any = []
    try:
        for of_ranks in selections:
            attachment.serve(of_ranks[rank] if isinstance(of_ranks, dict) else of_ranks)
            length = len(loader)
            dist.barrier()
            result.append((length, served(loader)))
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
        selections: Ids, the same on every rank, or ids by rank.

    Returns:
        For each rank: for each epoch ``len(loader)`` and the ids of its batches; or the error.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = (ranks, folder, shards, workers, list(selections))
        # A server that has the imports done forks each rank.
        multiprocessing.set_forkserver_preload(["composer_dataagent.streaming"])
        mp.start_processes(  # type: ignore[attr-defined]
            _rank, args=arguments, nprocs=ranks, start_method="forkserver"
        )
        return [torch.load(Path(folder, f"{rank}.pt"), weights_only=False) for rank in range(ranks)]
