# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Activations that are spread over ranks are refused in words: no rank sees a whole sample."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from forked_ranks import join, start
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    SequenceParallel,
    parallelize_module,
)

from composer_dataagent.signals import FeatureHook, detect_signals


def _errors(rank: int, ranks: int, folder: str) -> None:
    join(rank, ranks, Path(folder, "rendezvous"))
    mesh = init_device_mesh("cpu", (ranks,))
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 4))
    plan: dict[str, ParallelStyle] = {
        "2": ColwiseParallel(output_layouts=Shard(-1), use_local_output=False)
    }
    parallelize_module(model, mesh, plan)
    errors = []
    try:
        detect_signals(model)(model(torch.rand(2, 6)), (None, torch.zeros(2).long()))
    except TypeError as error:
        errors.append(str(error))
    parallelize_module(model, mesh, {"1": SequenceParallel(sequence_dim=0)})
    hook = FeatureHook(model[2])
    hook.enable()
    try:
        model(torch.rand(2, 6))
    except TypeError as error:
        errors.append(str(error))
    torch.save(errors, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_outputs_and_features_that_are_spread_over_ranks(tmp_path: Path) -> None:
    start(_errors, 2, str(tmp_path))
    for rank in range(2):
        outputs, features = torch.load(tmp_path / f"{rank}.pt")
        assert "outputs of Sequential are a DTensor [2, 4] that is spread as (Shard(" in outputs
        assert "DataAgent(signals=my_signals)" in outputs
        assert "head's input is a DTensor" in features and "state='signals'" in features
