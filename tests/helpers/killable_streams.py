# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Streams and datasets in which one process is killed at a chosen moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

from streaming import Stream, StreamingDataset


def kill_once(flag: Path) -> None:
    """Kill this process if the file exists, and remove it, so that no other process follows."""
    try:
        flag.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


class DownloadKilled(Stream):
    """The process that downloads a shard is killed while it does so.

    Args:
        flag (Path): A file; removed when it happens.
        shard (str): Basename of the shard.
        **arguments (Any): Of a Stream.
    """

    def __init__(self, flag: Path, shard: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.flag = flag
        self.shard = shard

    def _download_file(self, from_basename: str, to_basename: str | None = None) -> str:
        if from_basename == self.shard:
            kill_once(self.flag)
        return super()._download_file(from_basename, to_basename)


class DownloadAbandoned(DownloadKilled):
    """As above, but a worker, and not before its rank is killed."""

    def _download_file(self, from_basename: str, to_basename: str | None = None) -> str:
        if from_basename == self.shard and self.flag.exists():
            parent = multiprocessing.parent_process()
            while parent is not None and parent.is_alive():
                time.sleep(0.01)
        return super()._download_file(from_basename, to_basename)


class PlanKilled(StreamingDataset):
    """One process is killed at the start of an epoch, where all of a node wait for each other.

    Args:
        flag (Path): A file; removed when it happens.
        moment (str): ``leader`` or ``follower``: the process that makes the plan of the epoch, or
            another one, is killed before they meet. ``reader``: one is killed that reads the plan.
        **arguments (Any): Of a StreamingDataset.
    """

    def __init__(self, flag: Path, moment: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.flag = flag
        self.moment = moment

    def _resume_incr_epoch(self) -> tuple[int, int]:
        leads = self._unique_worker_world.is_local_leader
        if self.moment == ("leader" if leads else "follower"):
            kill_once(self.flag)
        return super()._resume_incr_epoch()

    def _attach_work(self) -> Any:
        if self.moment == "reader":
            kill_once(self.flag)
        return super()._attach_work()
