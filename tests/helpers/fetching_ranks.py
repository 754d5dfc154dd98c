# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Ranks, of one node or of several, that train on shards which they fetch from a remote."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from forked_ranks import join, start


def _train(
    rank: int, ranks: int, nodes: int, remote: str, folder: str, arguments: dict[str, Any]
) -> None:
    import torch.distributed as dist
    from digits_run import Recorder, build_trainer, make_loader
    from streaming.base.shared import prefix

    from composer_dataagent import DataAgent

    join(rank, ranks, Path(folder, "rendezvous"), nodes)
    node = os.environ["NODE_RANK"]
    # What belongs to a machine: names of shared memory, and the folder of locks.
    prefix._each_prefix_int = lambda: itertools.count(1_000 * int(node))
    tempfile.tempdir = f"{folder}/tmp-{node}"
    os.makedirs(tempfile.tempdir, exist_ok=True)
    loader = make_loader(f"{folder}/cache-{node}", remote=remote, batch_size=16 // ranks)
    recorder = Recorder()
    agent = DataAgent(0.5, run_dir=f"{folder}/run", **arguments)
    trainer = build_trainer(loader, agent, callbacks=[recorder])
    trainer.fit()
    Path(folder, f"ids-{node}-{rank}.json").write_text(json.dumps(recorder.by_epoch()))
    dist.barrier()  # the leader's shared memory must outlive the others
    trainer.close()
    dist.destroy_process_group()


def train_ranks(
    remote: str, folder: Path, *, ranks: int, nodes: int = 1, **arguments: Any
) -> list[list[set[int]]]:
    """Train to the end.

    Args:
        remote: Folder of the MDS shards.
        folder: Where the history (``run``) and each node's cache (``cache-0``, ...) come to be.
        ranks: How many.
        nodes: Groups of them that have nothing in common but the remote.
        **arguments: Of DataAgent.

    Returns:
        Which samples each node was served in each epoch.
    """
    start(_train, ranks, nodes, remote, str(folder), arguments)
    of_nodes = []
    for node in range(nodes):
        files = folder.glob(f"ids-{node}-*.json")
        of_ranks = [json.loads(file.read_text()) for file in files]
        of_nodes.append([set(itertools.chain(*ids)) for ids in zip(*of_ranks, strict=True)])
    return of_nodes
