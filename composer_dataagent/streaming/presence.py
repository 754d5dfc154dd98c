# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which ranks of a node are there, and which shards are being prepared: nobody waits for the dead.

A process that is killed leaves shared memory as it was, and stock code waits for it forever. A
POSIX lock belongs to one process, not to its forks, and ends with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import multiprocessing
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from streaming.base.constant import TICK
from streaming.base.shared import SharedBarrier

from composer_dataagent.streaming.errors import RankEndedError, RankMissingError

_LOOK_EVERY = 0.5  # seconds
_WRITTEN = b"1"
_NAME = "_presence_"
_OWN = re.compile(rf"{_NAME}\d+_\d+$")


class Presence:
    """Known to all processes of a node that use one dataset, and shared by copies of the dataset.

    Byte ``r`` of the file is locked by rank ``r`` as long as it lives, and written when it came;
    byte ``ranks + s`` is locked by the process that prepares shard ``s``, and written when somebody
    has validated the files of it that were there before.

    Args:
        path (str): A file that only they use.
        ranks (int): How many ranks the node has.
    """

    def __init__(self, path: str, ranks: int) -> None:
        self.path = path
        self.ranks = ranks
        self._file: _LockedFile | None = None

    def arrive(self, rank: int) -> None:
        """Let the others know that this process is a rank, until it ends."""
        self._own_file().lock(rank)
        self._own_file().write(rank)

    def check(self) -> None:
        """See to it that nobody is missing who others wait for.

        Raises:
            RankEndedError: A rank came and is gone.
        """
        parent = multiprocessing.parent_process()
        is_worker = multiprocessing.current_process().daemon
        if parent is not None and is_worker and not parent.is_alive():
            raise RankEndedError("The process that this worker reads for has ended")
        file = self._own_file()
        for rank, has_come in enumerate(file.read(0, self.ranks)):
            if has_come and file.is_free(rank):
                raise RankEndedError(
                    f"Rank {rank} of this node has ended, while this process waited for it: see "
                    "its own output for why"
                )

    def missing(self) -> RankMissingError | None:
        """What is wrong if another rank has never arrived; asked when all have begun an epoch."""
        for rank, has_come in enumerate(self._own_file().read(0, self.ranks).ljust(self.ranks)):
            if has_come != _WRITTEN[0]:
                return RankMissingError(
                    f"Rank {rank} of this node iterates over the data without a selection: select, "
                    "or attach, on every rank"
                )
        return None

    @contextlib.contextmanager
    def preparing(self, shard_id: int) -> Iterator[bool]:
        """Prepare a shard; gives False if another process does so at this moment."""
        file, byte = self._own_file(), self.ranks + shard_id
        if not file.lock(byte):
            yield False
            return
        try:
            yield True
        finally:
            file.unlock(byte)

    def is_prepared(self, shard_id: int) -> bool:
        """Whether a process that lives is preparing a shard."""
        return not self._own_file().is_free(self.ranks + shard_id)

    def prove(self, shard_id: int) -> None:
        """Let the others know that a shard that was there before has been validated."""
        self._own_file().write(self.ranks + shard_id)

    def is_proven(self, shard_id: int) -> bool:
        """Whether another process has validated it."""
        return self._own_file().read(self.ranks + shard_id, 1) == _WRITTEN

    def _own_file(self) -> _LockedFile:
        if self._file is None or self._file.process_id != os.getpid():
            self._file = _LockedFile.of_this_process(self.path)
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "ranks": self.ranks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Presence:
        return self


def presence_path(folder: str, prefix: str, memory: os.stat_result) -> str:
    """Where a run of a node keeps its :class:`Presence`.

    Args:
        folder (str): Of temporary files.
        prefix (str): Streaming's, which comes again in later runs.
        memory (os.stat_result): Of a shared memory that all ranks have open.
    """
    return os.path.join(folder, f"{prefix}{_NAME}{memory.st_ino}_{memory.st_ctime_ns}")


def remove_abandoned(folder: str) -> None:
    """Remove what is left of runs whose first rank was killed, with all that is named after it."""
    for path in glob.glob(os.path.join(glob.escape(folder), f"*{_NAME}*")):
        if not _OWN.search(path):
            continue
        with contextlib.suppress(OSError):
            if os.stat(path).st_uid != os.getuid():
                continue
            file = _LockedFile.of_this_process(path)
            if file.read(0, 1) == _WRITTEN and file.is_free(0):
                # Itself last: by it the others are found.
                for left in sorted(glob.glob(f"{glob.escape(path)}*"), reverse=True):
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(left)


class _LockedFile:
    """A file that this process has locks on.

    A process that closes a file loses all locks that it has on it, whichever descriptor it took
    them with. So there is one descriptor for a file in each process, and a fork, which has none of
    its parent's locks, leaves the inherited one alone.
    """

    _all: ClassVar[WeakValueDictionary[tuple[int, str], _LockedFile]] = WeakValueDictionary()
    _opening: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def of_this_process(cls, path: str) -> _LockedFile:
        key = os.getpid(), path
        with cls._opening:  # of two, the one that is not kept would take the other's locks away
            return cls._all.get(key) or cls._all.setdefault(key, cls(path))

    def __init__(self, path: str) -> None:
        self.process_id = os.getpid()
        self._held: set[int] = set()  # own locks, which a process does not see
        self._threads = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def lock(self, byte: int) -> bool:
        """Take a lock that nobody has, no other thread of this process either."""
        with self._threads:
            if byte in self._held:
                return False
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except (BlockingIOError, PermissionError):
                return False
            self._held.add(byte)
            return True

    def unlock(self, byte: int) -> None:
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)
            self._held.discard(byte)

    def is_free(self, byte: int) -> bool:
        is_free = self.lock(byte)
        if is_free:
            self.unlock(byte)
        return is_free

    def write(self, byte: int) -> None:
        os.pwrite(self._file, _WRITTEN, byte)

    def read(self, start: int, count: int) -> bytes:
        return os.pread(self._file, count, start)

    def __del__(self) -> None:
        if hasattr(self, "_file") and self.process_id == os.getpid():
            os.close(self._file)


def _renew_lock() -> None:
    _LockedFile._opening = threading.Lock()  # a thread that is not in this fork may have had it


os.register_at_fork(after_in_child=_renew_lock)


class WatchfulBarrier(SharedBarrier):
    """Streaming's barrier, which notices when a rank does not come any more."""

    presence: Presence

    def __call__(self, num_procs: int) -> None:
        """See ``SharedBarrier``; upstream's steps, but for how they wait.

        Raises:
            RankEndedError: Somebody is waited for who has ended.
        """
        with self.lock:
            if self.num_exit == -1:
                self.num_exit = num_procs
        self.lock.acquire()
        if not self.num_enter:
            self.lock.release()
            watchful(self.presence, lambda: self.num_exit == num_procs)
            self.lock.acquire()
            self.flag = False
        self.num_enter += 1
        if self.num_enter == num_procs:
            self.num_enter = 0
            self.num_exit = 0
            self.flag = True
        self.lock.release()
        watchful(self.presence, lambda: self.flag)
        with self.lock:
            self.num_exit += 1
            if self.num_exit == num_procs:
                self.num_exit = -1


def watchful(presence: Presence, condition: Callable[[], bool]) -> None:
    """Wait for what other processes do, as long as they can."""
    look_at = time.monotonic() + _LOOK_EVERY
    while not condition():
        time.sleep(TICK)
        if time.monotonic() > look_at:
            presence.check()
            look_at = time.monotonic() + _LOOK_EVERY
