# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The few collective operations that ranks agree by, and a count of what they cost.

On one process each is the identity, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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


class Traffic(NamedTuple):
    """What one rank has sent: collective calls, and bytes of payload."""

    calls: int = 0
    bytes: int = 0

    def __sub__(self, before: Traffic) -> Traffic:
        return Traffic(self.calls - before.calls, self.bytes - before.bytes)


class GatheredRows(NamedTuple):
    """Rows of all ranks, in rank order.

    Attributes:
        columns (dict[str, NDArray]): Equal-length arrays.
        rank (NDArray[np.int64]): Whose row each is.
    """

    columns: dict[str, NDArray]
    rank: NDArray[np.int64]


class Ranks:
    """The ranks that train together. Every method is to be called by all of them.

    Args:
        device (torch.device | str): Where the process group communicates. Default: ``"cpu"``.

    Attributes:
        traffic (Traffic): What this object has sent so far.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.traffic = Traffic()

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """Sum ``tensor`` over all ranks, in place.

        Args:
            tensor (Tensor): Any shape, on the device that the process group communicates on.

        Returns:
            Tensor: The same tensor, now equal on all ranks, bit by bit.
        """
        if world_size() > 1:
            self._count(tensor.nbytes)
            dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
        return tensor

    def all_gather_rows(self, columns: Mapping[str, NDArray]) -> GatheredRows:
        """Concatenate every rank's rows; ranks may hold different numbers of rows.

        Rows travel as raw bytes, so that int64 ids keep their value whatever the other columns'
        dtypes are (concatenating ids with half-precision losses is how peers lose ids above 2048).

        Args:
            columns (Mapping[str, NDArray]): Equal-length 1-D arrays; same names and dtypes on all
                ranks.

        Returns:
            GatheredRows: The same columns with the rows of all ranks.
        """
        count = len(next(iter(columns.values())))
        if world_size() == 1:
            return GatheredRows(dict(columns), np.zeros(count, np.int64))
        layout = np.dtype([(name, column.dtype) for name, column in columns.items()])
        rows = np.empty(count, layout)
        for name, column in columns.items():
            rows[name] = column
        parts = [part.view(layout) for part in self._all_gather_bytes(rows.view(np.uint8))]
        gathered = np.concatenate(parts)
        return GatheredRows(
            {name: np.ascontiguousarray(gathered[name]) for name in columns},
            np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        )

    def all_gather_objects(self, value: Any) -> list[Any]:
        """Every rank's ``value``, anything that can be pickled, in rank order."""
        if world_size() == 1:
            return [value]
        values = [None] * world_size()
        # Its size is not worth being known: for checkpoints inside an epoch only.
        self._count(0)
        dist.all_gather_object(values, value)
        return values

    def check_same(self, what: str, digest: Callable[[], str]) -> None:
        """See to it that all ranks have the same.

        Args:
            what (str): What it is, for the message.
            digest (Callable[[], str]): Gives a digest of what this rank has, as long on every rank.
                Not called on one process.

        Raises:
            RuntimeError: Ranks differ; the message names them, on every rank.
        """
        if world_size() == 1:
            return
        mine = np.frombuffer(digest().encode(), np.uint8)
        digests = [bytes(part).decode() for part in self._all_gather_bytes(mine, same_size=True)]
        differing = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
        if differing:
            raise RuntimeError(
                f"Ranks {differing} have another {what} than rank 0, so they would train on "
                "different terms from here on. Is the same data mounted, and the same package "
                "installed, on every node?"
            )

    def _all_gather_bytes(
        self, mine: NDArray[np.uint8], same_size: bool = False
    ) -> list[NDArray[np.uint8]]:
        if world_size() == 1:
            return [mine]
        sizes = [len(mine)] * world_size()
        if not same_size:
            size = torch.tensor([len(mine)], dtype=torch.int64, device=self.device)
            received = [torch.zeros_like(size) for _ in sizes]
            self._count(size.nbytes)
            dist.all_gather(received, size)
            sizes = torch.cat(received).tolist()
        # NCCL and gloo gather equal shapes only: pad to the longest rank.
        padded = np.zeros(max(sizes), np.uint8)
        padded[: len(mine)] = mine
        sent = torch.from_numpy(padded).to(self.device)
        received = [torch.empty_like(sent) for _ in sizes]
        self._count(sent.nbytes)
        dist.all_gather(received, sent)
        return [part.cpu().numpy()[:size] for part, size in zip(received, sizes, strict=True)]

    def _count(self, size: int) -> None:
        self.traffic = Traffic(self.traffic.calls + 1, self.traffic.bytes + size)
