# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a node has fetched, counted by all its processes; and what it holds of partial shards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RECORD = Struct("=2q")
_MOST_WORKERS = 4096  # of a node; only of so many it is known how far they are


@dataclass(frozen=True)
class Egress:
    """What was fetched from a remote.

    Attributes:
        requests (int): Reading requests, without those that a client repeats on its own.
        bytes (int): What they brought.
    """

    requests: int = 0
    bytes: int = 0

    def __add__(self, other: Egress) -> Egress:
        return Egress(self.requests + other.requests, self.bytes + other.bytes)

    def __sub__(self, other: Egress) -> Egress:
        return Egress(self.requests - other.requests, self.bytes - other.bytes)


class Tally:
    """Two files that only the processes of a node that use one dataset have.

    What was fetched is appended to the first, since that needs no lock, which a fork or a killed
    process could hold forever. The node's first rank removes them when it ends, though others may
    not be done yet: these count for nobody then.

    Args:
        path (str): Of the files, without their ends.
        shards (int): How many shards the data set has.
    """

    def __init__(self, path: str, shards: int) -> None:
        self.path = path
        self.shards = shards
        self._count = 2 * shards + _MOST_WORKERS
        for name, size in zip(self.paths, (0, 8 * self._count), strict=True):
            with open(name, "ab") as file:
                if os.fstat(file.fileno()).st_size < size:
                    os.truncate(file.fileno(), size)
        self._seen = Egress()
        self._read = 0  # bytes of the first file
        self._mapped: NDArray[np.int64] | None = None

    @property
    def paths(self) -> list[str]:
        """The files."""
        return [f"{self.path}.fetched", f"{self.path}.held"]

    def count(self, requests: int, size: int) -> None:
        """Add to what was fetched."""
        with contextlib.suppress(FileNotFoundError), self._open(0, os.O_APPEND) as descriptor:
            os.write(descriptor, _RECORD.pack(requests, size))

    def total(self) -> Egress:
        """What was fetched since the dataset was attached."""
        new = b""
        with contextlib.suppress(FileNotFoundError), self._open(0) as descriptor:
            new = os.pread(descriptor, os.fstat(descriptor).st_size - self._read, self._read)
        new = new[: len(new) // _RECORD.size * _RECORD.size]
        for requests, size in _RECORD.iter_unpack(new):
            self._seen += Egress(requests, size)
        self._read += len(new)
        return self._seen

    def held(self) -> NDArray[np.int64]:
        """``[S]`` bytes that partial shards take of the disk, as they are counted in the cache.

        A cell is changed by whoever prepares the shard or evicts it, which is one at a time.
        """
        return self._cells()[: self.shards]

    def reserved(self) -> NDArray[np.int64]:
        """``[S]`` bytes that shards will take which are being fetched at this moment."""
        return self._cells()[self.shards : 2 * self.shards]

    def progress(self, workers: int) -> NDArray[np.int64]:
        """``[workers]`` the part of the epoch that each worker of the node has served up to."""
        return self._cells()[2 * self.shards :][:workers]

    def _cells(self) -> NDArray[np.int64]:
        if self._mapped is None:
            self._mapped = np.memmap(self.paths[1], np.int64, mode="r+", shape=(self._count,))
        return self._mapped

    @contextlib.contextmanager
    def _open(self, which: int, how: int = 0) -> Iterator[int]:
        descriptor = os.open(self.paths[which], os.O_RDWR | os.O_CLOEXEC | how)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_mapped": None}
