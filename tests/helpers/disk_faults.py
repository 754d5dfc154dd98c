# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What can happen to files, as functions of their path that can be sent to other processes."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path


def empty(path: Path) -> None:
    """Cut all of a file off, in place."""
    os.truncate(path, 0)


def halve(path: Path) -> None:
    """Cut the second half of a file off, in place."""
    os.truncate(path, path.stat().st_size // 2)


def halve_all(folder: Path) -> None:
    """Halve each shard."""
    for path in folder.glob("*.mds"):
        halve(path)


def lengthen(path: Path) -> None:
    """Append to a file."""
    path.write_bytes(path.read_bytes() + b"more")


def flip(path: Path) -> None:
    """Change one byte in the middle of a file, in place."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def mount(folder: Path, size: int) -> str:
    """Give a folder a small disk of its own; what is in the way of that, if anything."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return done.stderr if done.returncode else ""


def enlarge(folder: Path) -> None:
    """Make space on such a disk."""
    subprocess.run(["mount", "-o", "remount,size=1m", str(folder)], check=True)


def limit_files(size: int) -> None:
    """Let this process, and those it starts, write no larger files."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
