# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Has the machine what training by streaming takes?"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from composer_dataagent.doctor.finding import Finding
from composer_dataagent.units import bytes_in_words

# Streaming keeps a few bytes for each shard and rank there, loader workers pass batches through it.
SHARED_MEMORY = Path("/dev/shm")
_ENOUGH_SHARED_MEMORY = 256 << 20
_LITTLE_SHARED_MEMORY = 8 << 20
_ENOUGH_TEMPORARY = 100 << 20
_ENOUGH_FILES = 1024


def check_machine() -> list[Finding]:
    """Processors, shared memory, temporary files, open files."""
    return [_processors(), _shared_memory(), _temporary_files(), _open_files()]


def free_bytes(folder: Path) -> int:
    """Of the file system that a folder is on."""
    return shutil.disk_usage(folder).free


def _processors() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        import torch

        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    except Exception:  # see the packages
        gpus = []
    if not gpus:
        return Finding(
            "note",
            f"{cores} CPU cores, no GPU",
            "recipes that say trainer.device=gpu need cpu here",
        )
    return Finding("good", f"{cores} CPU cores, {len(gpus)} GPUs ({', '.join(sorted(set(gpus)))})")


def _shared_memory() -> Finding:
    if not SHARED_MEMORY.is_dir():
        level = "bad" if sys.platform == "linux" else "note"
        return Finding(level, f"there is no {SHARED_MEMORY}", "mount a tmpfs there")
    free = free_bytes(SHARED_MEMORY)
    what = f"{SHARED_MEMORY}: {bytes_in_words(free)} free"
    if not os.access(SHARED_MEMORY, os.W_OK):
        return Finding("bad", f"{SHARED_MEMORY} cannot be written", "chmod 1777 /dev/shm, as root")
    more = "in a container: docker run --shm-size 2g (or --ipc host)"
    if free < _LITTLE_SHARED_MEMORY:
        return Finding(
            "bad", what, f"{more}; or remove what killed runs left: ls -l {SHARED_MEMORY}"
        )
    if free < _ENOUGH_SHARED_MEMORY:
        return Finding("note", f"{what}, little for loader workers", f"more of it, {more}")
    return Finding("good", what)


def _temporary_files() -> Finding:
    # Streaming's file locks and our selections are there.
    folder = Path(tempfile.gettempdir())
    problem = cannot_write(folder)
    if problem:
        return Finding("bad", f"{folder} {problem}", "give another folder: export TMPDIR=...")
    free = free_bytes(folder)
    what = f"{folder}: {bytes_in_words(free)} free for temporary files"
    if free < _ENOUGH_TEMPORARY:
        return Finding("bad", what, "make room, or give another folder: export TMPDIR=...")
    return Finding("good", what)


def cannot_write(folder: Path) -> str:
    """Why files cannot be written there; empty if they can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return f"cannot be written ({error.strerror or error})"
    return ""


def _open_files() -> Finding:
    try:
        import resource
    except ImportError:  # not on Windows
        return Finding("note", "how many files may be open is not known here")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Finding("good", "any number of files may be open")
    what = f"{soft:,} files may be open"
    if soft >= _ENOUGH_FILES:
        return Finding("good", what)
    if 0 <= hard < _ENOUGH_FILES:
        return Finding("note", what, f"as root: ulimit -n {_ENOUGH_FILES}")
    return Finding("note", what, f"ulimit -n {_ENOUGH_FILES}")
