# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Who writes a run folder: one process at a time, until it ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from pathlib import Path

# Locked by the process that writes; it stays, empty: to remove it would let two have one each.
LOCK = ".running"
# Whoever looks whether a folder is held has its lock for a moment.
_PATIENCE = 0.5


class InUseError(FileExistsError):
    """Another process holds a run folder."""


class Hold:
    """A folder that this process writes, for as long as it keeps this object.

    Args:
        descriptor (int | None): Of the locked file, which is closed with this object; None where
            there are no locks.
    """

    def __init__(self, descriptor: int | None) -> None:
        self.is_seen = descriptor is not None  # by others
        self._close = None if descriptor is None else weakref.finalize(self, os.close, descriptor)

    def let_go(self) -> None:
        """Close the file, which other processes may have open as well: then they hold it still."""
        if self._close is not None:
            self._close()


_held: weakref.WeakValueDictionary[Path, Hold] = weakref.WeakValueDictionary()


def _leave_to_parent() -> None:
    """Loader workers outlive a process that is killed by a few seconds, and write nothing."""
    for hold in list(_held.values()):
        hold.let_go()
    _held.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


def take(folder: Path) -> Hold:
    """Hold a folder. A process that holds it already is given the same once more.

    Args:
        folder (Path): It is there.

    Raises:
        InUseError: Another process holds it.
    """
    folder = folder.resolve()
    hold = _held.get(folder)
    if hold is None:
        hold = _held[folder] = Hold(_locked(folder))
    return hold


def leave(folder: Path) -> None:
    """Hold a folder no longer, if this process does: whatever kept the hold may live on."""
    hold = _held.pop(folder.resolve(), None)
    if hold is not None:
        hold.let_go()


def refuse_if_held(folder: Path) -> None:
    """Refuse a folder, there or not, that another process holds.

    Raises:
        InUseError: Another process does.
    """
    if folder.resolve() not in _held and is_held(folder / LOCK):
        raise _refusal(folder)


def is_held(file: Path) -> bool | None:
    """Whether any process has a lock file locked; None where that cannot be known."""
    try:
        with open(file, "rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _locked(folder: Path) -> int | None:
    """The descriptor of a folder's file, locked until it is closed; None where it cannot be."""
    end = time.monotonic() + _PATIENCE
    try:
        opened = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None
    while True:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return opened
        except BlockingIOError as error:
            if time.monotonic() > end:
                os.close(opened)
                raise _refusal(folder) from error
        except OSError:  # a file system without locks
            os.close(opened)
            return None
        time.sleep(_PATIENCE / 50)


def _refusal(folder: Path) -> InUseError:
    return InUseError(
        f"The run_dir {folder} is in use by another process, which trains there, or may still "
        "evaluate: let it end, stop it, or give another run_dir"
    )
