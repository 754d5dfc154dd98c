# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Several ranks that train on map-style data through Composer, each in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forked_ranks import join, start


def _rank(rank: int, ranks: int, folder: str, arguments: dict[str, Any]) -> None:
    import torch
    import torch.distributed as dist
    from digits_run import Recorder, build_trainer, make_map_loader, weights_of

    from composer_dataagent import DataAgent

    join(rank, ranks, Path(folder, "rendezvous"))
    recorder = Recorder()
    agent = DataAgent(ratio=0.5, update_interval=4)
    loader = make_map_loader(**{"batch_size": 8, "distributed": {"seed": 3}, **arguments["loader"]})
    trainer = build_trainer(loader, agent, callbacks=[recorder], **arguments["trainer"])
    try:
        trainer.fit()
        result: Any = {
            "batches": recorder.ids,
            "weights": weights_of(trainer),
            "ledger": agent.ledger.state_dict(),
        }
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    torch.save(result, f"{folder}/{rank}.pt")
    dist.barrier()
    trainer.close()
    dist.destroy_process_group()


def run_ranks(
    folder: Path, *, ranks: int = 2, loader: dict[str, Any] | None = None, **trainer: Any
) -> list[Any]:
    """Train on every rank of one node.

    Args:
        folder: Where they meet and leave their results; made here.
        ranks: How many.
        loader: Arguments of ``digits_run.make_map_loader``.
        **trainer: Arguments of ``digits_run.build_trainer``.

    Returns:
        For each rank: its batches, weights and ledger; or the error.
    """
    import torch

    folder.mkdir()
    start(_rank, ranks, str(folder), {"loader": loader or {}, "trainer": trainer})
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(ranks)]
