# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Processes that are ranks, as Composer and streaming find them behind a launcher."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

import pytest


def join(rank: int, ranks: int, meeting: Path, nodes: int = 1) -> None:
    """Make this process one of several ranks that meet at a file, which is not there yet."""
    import torch
    import torch.distributed as dist

    per_node = ranks // nodes
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_RANK": str(rank % per_node),
        "LOCAL_WORLD_SIZE": str(per_node),
        "NODE_RANK": str(rank // per_node),
    }
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)


def forkserver() -> Any:
    """The way to start processes from a server that has done the imports; there is one for all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["digits_run", "known_processor", "composer_dataagent.algorithm", "boto3", "pytest"]
    )
    # Python 3.11 does not tell the server its search path, and what is not found is passed over.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        ensure_running()
    return context


def start(function: Callable[..., None], ranks: int, *arguments: Any) -> None:
    """Call ``function(rank, ranks, *arguments)`` on each; an error of one is raised here."""
    import torch.multiprocessing as mp

    forkserver()
    mp.start_processes(  # type: ignore[attr-defined]
        function, args=(ranks, *arguments), nprocs=ranks, start_method="forkserver"
    )
