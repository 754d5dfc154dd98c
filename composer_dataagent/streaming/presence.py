# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which ranks of a node are there, and which shards are being prepared: nobody waits for the dead.

A process that is killed leaves shared memory as it was, and stock code waits for it forever. A
POSIX lock belongs to one process, not to its forks, and ends with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from streaming.base.constant import TICK
from streaming.base.shared import SharedBarrier

from composer_dataagent.streaming.errors import RankEndedError

_LOOK_EVERY = 0.5  # seconds


class Presence:
    """Known to all processes of a node that use one dataset.

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
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._process_id = os.getpid()
        self._file: int | None = None
        self._held: set[int] = set()  # own locks, which a process does not see
        self._threads = threading.Lock()

    def arrive(self, rank: int) -> None:
        """Let the others know that this process is a rank, until it ends."""
        self._lock(rank)
        os.pwrite(self._descriptor(), b"1", rank)

    def check(self) -> None:
        """See to it that nobody is missing who others wait for.

        Raises:
            RankEndedError: A rank came and is gone.
        """
        parent = multiprocessing.parent_process()
        is_worker = multiprocessing.current_process().daemon
        if parent is not None and is_worker and not parent.is_alive():
            raise RankEndedError("The process that this worker reads for has ended")
        came = os.pread(self._descriptor(), self.ranks, 0)
        for rank, has_come in enumerate(came):
            if has_come and self._is_free(rank):
                raise RankEndedError(
                    f"Rank {rank} of this node has ended, while this process waited for it: see "
                    "its own output for why"
                )

    @contextlib.contextmanager
    def preparing(self, shard_id: int) -> Iterator[bool]:
        """Prepare a shard; gives False if another process does so at this moment."""
        byte = self.ranks + shard_id
        if not self._lock(byte):
            yield False
            return
        try:
            yield True
        finally:
            self._unlock(byte)

    def is_prepared(self, shard_id: int) -> bool:
        """Whether a process that lives is preparing a shard."""
        return not self._is_free(self.ranks + shard_id)

    def prove(self, shard_id: int) -> None:
        """Let the others know that a shard that was there before has been validated."""
        os.pwrite(self._descriptor(), b"1", self.ranks + shard_id)

    def is_proven(self, shard_id: int) -> bool:
        """Whether another process has validated it."""
        return os.pread(self._descriptor(), 1, self.ranks + shard_id) == b"1"

    def _is_free(self, byte: int) -> bool:
        is_free = self._lock(byte)
        if is_free:
            self._unlock(byte)
        return is_free

    def _lock(self, byte: int) -> bool:
        """Take a lock that nobody has, no other thread of this process either."""
        file = self._descriptor()
        with self._threads:
            if byte in self._held:
                return False
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except (BlockingIOError, PermissionError):
                return False
            self._held.add(byte)
            return True

    def _unlock(self, byte: int) -> None:
        with self._threads:
            fcntl.lockf(self._descriptor(), fcntl.LOCK_UN, 1, byte)
            self._held.discard(byte)

    def _descriptor(self) -> int:
        if self._process_id != os.getpid():  # a fork has none of its parent's locks
            self._begin_anew()
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "ranks": self.ranks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def __del__(self) -> None:
        if self._file is not None:  # which gives up all locks of this process
            os.close(self._file)


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
