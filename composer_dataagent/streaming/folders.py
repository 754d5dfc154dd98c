# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Temporary folders that bear their process's name, so that those of killed ones can be removed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

PREFIX = "composer_dataagent_"
_OWNED = re.compile(PREFIX + r"([0-9a-f]{12})_([1-9][0-9]{0,8})_([0-9]+)_\w+")


def make_folder() -> str:
    """Make a folder that only this user can read, and remove those that killed processes left.

    Where the system does not tell enough about its processes, nothing is removed.

    Returns:
        str: Its path. Whoever asked for it removes it with :func:`remove_folder`.
    """
    with contextlib.suppress(OSError):  # tidying up is no reason to fail
        _remove_abandoned()
    prefix = PREFIX
    with contextlib.suppress(OSError, IndexError):
        pid = os.getpid()
        prefix = f"{PREFIX}{_realm()}_{pid}_{_start(pid)}_"
    return tempfile.mkdtemp(prefix=prefix)


def remove_folder(folder: str, owner: int) -> None:
    """Remove a folder, unless this process is a fork of the one with the id ``owner``."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def remove_file(path: str, owner: int) -> None:
    """Remove a file, unless this process is a fork of the one with the id ``owner``."""
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            os.remove(path)


def _remove_abandoned() -> None:
    realm = _realm()
    with os.scandir(tempfile.gettempdir()) as entries:
        owned = [(entry, match) for entry in entries if (match := _OWNED.fullmatch(entry.name))]
    for entry, match in owned:
        if match[1] != realm or _lives(int(match[2]), match[3]):
            continue
        with contextlib.suppress(OSError):
            # Of another user's folder we cannot know whether we see its process.
            if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                shutil.rmtree(entry.path, ignore_errors=True)  # which follows no links either


def _realm() -> str:
    """Names what process ids are unique in: this container, since the machine was started.

    Folders can be shared with other containers and machines, whose processes are not seen here.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    container = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{boot} {container}".encode()).hexdigest()[:12]


def _lives(pid: int, start: str) -> bool:
    """Whether this very process lives; if in doubt, it does."""
    try:
        os.kill(pid, 0)
        return _start(pid) == start
    except ProcessLookupError:
        return False
    except (OSError, IndexError):
        return True


def _start(pid: int) -> str:
    """When a process was started: ids are used again, but not with the same start.

    Raises:
        ProcessLookupError: It has ended, though its parent did not take notice yet.
    """
    # "pid (name) state ...": the name can hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise ProcessLookupError(pid)
    return fields[19]
