# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""When the epoch that runs needs which sample on this node, known to all processes of the node."""

from __future__ import annotations

import os
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

# An epoch is cut into so many parts; 0 is never.
PARTS = np.iinfo(np.uint16).max
_AT_ONCE = 1 << 20  # samples
# Where there is room for a part of an epoch only, more of it is asked for so often, not with each
# sample: in fewer requests, and what is there need not be looked at for each.
_STRIDES = 4


class Needs:
    """A file with the part of the epoch in which each shard is needed last, and each sample.

    Args:
        path (str): A file that only this dataset's processes use.
        samples_per_shard (NDArray[np.int64]): ``[S]``, in the order of ids.
    """

    def __init__(self, path: str, samples_per_shard: NDArray[np.int64]) -> None:
        self.path = path
        self.serial = 0  # another one for each epoch that this process runs; 0: none yet
        self._ends = np.cumsum(samples_per_shard)
        self._mapped: tuple[float, NDArray[np.uint16], NDArray[np.uint16]] | None = None

    def publish(
        self,
        plan: NDArray,
        by_sample: bool,
        bytes_per_sample: NDArray[np.float64] | None = None,
        room: float = np.inf,
    ) -> None:
        """Say what is needed from now on; called by one process, while no other asks.

        Args:
            plan (NDArray): ``[ranks, workers, steps, batch]`` sample ids, of any integer type;
                negative ones are none.
            by_sample (bool): Whether to tell it of each sample, too.
            bytes_per_sample (NDArray[np.float64] | None): ``[S]`` mean size of a shard's samples;
                needed where there is a limit to the room.
            room (float): Bytes that there are for samples which are fetched ahead. Default: for
                all.
        """
        ends = self._ends
        last = np.zeros(len(ends), np.uint16)
        when = np.zeros(int(ends[-1]) if by_sample else 0, np.uint16)
        # By sample, not by batch: workers tell by samples how far they are.
        plan = plan.reshape(*plan.shape[:2], -1, 1)
        ranks, workers, steps, batch = plan.shape
        by_step = plan.transpose(2, 0, 1, 3)
        at_once = max(_AT_ONCE // max(ranks * workers * batch, 1), 1)
        size = 0.0
        for start in range(0, steps, at_once):
            ids = by_step[start : start + at_once].reshape(-1)
            step = np.repeat(np.arange(start, min(start + at_once, steps)), ranks * workers * batch)
            is_one = ids >= 0
            ids, parts = ids[is_one], part_of(step[is_one], steps)
            shards = np.searchsorted(ends, ids, side="right")
            last[shards] = parts  # of several, the last one counts
            if by_sample:
                when[ids] = parts
            if room < np.inf and bytes_per_sample is not None:
                size += bytes_per_sample[shards].sum()
        beside = f"{self.path}.part"
        with open(beside, "wb") as file:
            file.write(np.float64(min(room / size if size else 1.0, 1.0)).tobytes())
            file.write(last.data)
            file.write(when.data)
        os.replace(beside, self.path)

    def begin_epoch(self) -> None:
        """Forget what the last epoch needed; :meth:`open` comes next."""
        self.serial += 1
        self._mapped = None

    def of_shard(self, shard_id: int, done: int, position: float) -> NDArray[np.bool_]:
        """Which samples of a shard to have now, ``[samples of the shard]``.

        None, in a process that runs no epoch: what it reads it wants for another reason.

        Args:
            shard_id (int): Which.
            done (int): The part of the epoch, see :func:`part_of`, up to which all is over.
            position (float): The share of the epoch at which the first of them is needed; all that
                there is room for until later ones are needed are to come with it.
        """
        start = int(self._ends[shard_id - 1]) if shard_id else 0
        stop = int(self._ends[shard_id])
        if self.serial == 0:
            return np.zeros(stop - start, bool)
        _, _, when = self._all()
        parts = when[start:stop]
        return (parts >= max(done, 1)) & (parts <= self.until(position))

    def horizon(self) -> float:
        """The share of the epoch that there is room for ahead of where it is; at most 1."""
        return self._all()[0] if self.serial else 1.0

    def until(self, position: float) -> int:
        """Changes whenever :meth:`of_shard` may give more."""
        if self.serial == 0:
            return 0
        horizon, _, _ = self._all()
        if horizon >= 1:
            return PARTS
        stride = horizon / _STRIDES
        return int(part_of(stride * floor(position / stride) + horizon, 1))

    def last(self) -> NDArray[np.uint16]:
        """``[S]`` the part of the epoch, see :func:`part_of`, that needs a shard last; 0: none."""
        if self.serial == 0:
            return np.zeros(len(self._ends), np.uint16)
        return self._all()[1]

    def open(self) -> None:
        """Read it now, while it is sure to be there."""
        self._all()

    def _all(self) -> tuple[float, NDArray[np.uint16], NDArray[np.uint16]]:
        if self._mapped is None:
            horizon = float(np.fromfile(self.path, np.float64, 1)[0])
            parts = np.memmap(self.path, np.uint16, mode="r", offset=8)
            self._mapped = horizon, parts[: len(self._ends)], parts[len(self._ends) :]
        return self._mapped

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_mapped": None}


def part_of(step: Any, steps: int) -> Any:
    """The part of an epoch that a step is in, from 1 to :data:`PARTS`.

    Args:
        step (Any): One or many, from 0 to ``steps``; may be a share of an epoch, of 1.
        steps (int): Of the epoch.
    """
    share = np.asarray(step) / steps
    return (1 + np.minimum(share, 1.0) * (PARTS - 1)).astype(np.uint16)
