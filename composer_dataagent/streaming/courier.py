# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where ranges are fetched: in loader workers, and for a process that may fork some, in a child.

The threads of an object store's client do not survive a fork, and a fork that uses it waits for
them forever. Loader workers have no children; any other process leaves it to a child of its own,
unless it has used such a client anyway.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection, wait

from composer_dataagent.streaming.fetching import Order, Traffic, fetch, reads_itself


def fetch_safely(order: Order) -> Traffic:
    """:func:`fetch`, from any process.

    Args:
        order (Order): What to fetch.

    Returns:
        Traffic: What it took, and whether it was done.
    """
    if multiprocessing.current_process().daemon or reads_itself(os.getpid()):
        return fetch(order)
    return _Courier.of_this_process().fetch(order)


class _Courier:
    """A child process that fetches, for as long as its parent lives."""

    _own: _Courier | None = None
    _starting = threading.Lock()

    @classmethod
    def of_this_process(cls) -> _Courier:
        with cls._starting:
            own = cls._own
            if own is None or own.parent_id != os.getpid() or not own.is_there():
                own = cls._own = cls()
            return own

    def __init__(self) -> None:
        self.parent_id = os.getpid()
        self._turn = threading.Lock()
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self._pipe), daemon=True)
        self.process.start()
        theirs.close()

    def is_there(self) -> bool:
        return not self._pipe.closed and self.process.is_alive()

    def fetch(self, order: Order) -> Traffic:
        with self._turn:
            try:
                self._pipe.send(order)
                return self._pipe.recv()
            except (OSError, EOFError) as error:
                return Traffic(failure=f"the process that fetches has ended: {error!r}")
            except BaseException:
                # Its answer would be taken for that of the next order.
                self.process.kill()
                self._pipe.close()
                raise


def _serve(pipe: Connection, parents: Connection) -> None:
    parents.close()  # or there would be no end of it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None
    with contextlib.suppress(EOFError, OSError):
        while pipe in wait([pipe, parent.sentinel]):
            pipe.send(fetch(pipe.recv()))
    os._exit(0)  # nothing of the parent's is to be tidied up
