# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Folders beside a cache for shards that are there in part."""

from __future__ import annotations

import contextlib
import functools
import shutil
import time
from pathlib import Path

_SECONDS_TO_WRITE = 60.0
_PREFIX = ".composer_dataagent-1-"


@functools.cache
def folder_name() -> str:
    """Of the folder in which this machine keeps parts of shards.

    After a crash of the system a file may know of samples that never reached the disk, and another
    machine may have the same disk: so each machine has its own, new when it was started. Containers
    of one machine share it.

    Raises:
        OSError: The system does not tell when it was started.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{_PREFIX}{boot.replace('-', '')}"


def is_in_the_way(basename: str) -> bool:
    """Whether a file of a data set would be where parts of shards are."""
    return _PREFIX in basename


def remove_stale(folder: Path) -> None:
    """Remove what was left when the system, or another machine, was started anew.

    Args:
        folder (Path): Of a stream's split. What is not this machine's goes if nobody has made a
            file in it since this machine was started; one who still reads there fetches again.
    """
    start = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    for left in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # another machine tidies up, too
            if left.name != folder_name() and left.stat().st_mtime < start:
                shutil.rmtree(left, ignore_errors=True)


def remove_unfinished(file: Path) -> None:
    """Remove what a killed process was writing; another container's may be at it just now."""
    with contextlib.suppress(FileNotFoundError):
        if file.stat().st_mtime < time.time() - _SECONDS_TO_WRITE:
            file.unlink()
