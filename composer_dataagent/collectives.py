# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The few collective operations everyone shares; on one process each is the identity."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor


def world_size() -> int:
    """Number of ranks that train together (1 when ``torch.distributed`` is not initialised)."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's global rank (0 when ``torch.distributed`` is not initialised)."""
    return dist.get_rank() if world_size() > 1 else 0


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        dist.barrier()


def all_gather_strings(text: str) -> list[str]:
    """Every rank's ``text``, in rank order."""
    texts = [text] * world_size()
    if world_size() > 1:
        dist.all_gather_object(texts, text)
    return texts


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum ``tensor`` over all ranks, in place.

    Args:
        tensor (Tensor): Any shape, on the device that the process group communicates on.

    Returns:
        Tensor: The same tensor, now equal on all ranks.
    """
    if world_size() > 1:
        dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
    return tensor


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """Average ``tensor`` over all ranks, in place. See :func:`all_reduce_sum`."""
    if world_size() > 1:
        dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
        tensor /= world_size()
    return tensor


def all_gather_rows(
    columns: Mapping[str, NDArray], device: torch.device | str = "cpu"
) -> dict[str, NDArray]:
    """Concatenate every rank's rows, in rank order; ranks may hold different numbers of rows.

    Rows travel as raw bytes, so that int64 ids keep their value whatever the other columns' dtypes
    are (concatenating ids with half-precision losses is how peers lose ids above 2048).

    Args:
        columns (Mapping[str, NDArray]): Equal-length 1-D arrays; same names and dtypes on all
            ranks.
        device (torch.device | str): Where the process group communicates. Default: ``"cpu"``.

    Returns:
        dict[str, NDArray]: The same columns with the rows of all ranks.
    """
    if world_size() == 1:
        return dict(columns)
    count = torch.tensor([len(next(iter(columns.values())))], dtype=torch.int64, device=device)
    counts = [torch.zeros_like(count) for _ in range(world_size())]
    dist.all_gather(counts, count)
    sizes = [int(c.item()) for c in counts]
    gathered = {}
    for name, column in columns.items():
        width = column.dtype.itemsize
        # NCCL and gloo gather equal shapes only: pad to the longest rank.
        mine = np.zeros(max(sizes) * width, np.uint8)
        mine[: column.nbytes] = np.ascontiguousarray(column).view(np.uint8)
        sent = torch.from_numpy(mine).to(device)
        received = [torch.empty_like(sent) for _ in sizes]
        dist.all_gather(received, sent)
        gathered[name] = np.concatenate(
            [
                part.cpu().numpy()[: size * width].view(column.dtype)
                for part, size in zip(received, sizes, strict=True)
            ]
        )
    return gathered
