# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Work done by several processes, none of which outlives the one that began them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Thread
from typing import TypeVar

import click

Key = TypeVar("Key")
Task = TypeVar("Task")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Task, Key], Result], todo: Mapping[Key, Task], jobs: int
) -> Iterator[tuple[Key, Result]]:
    """Do some tasks, in whatever order.

    Args:
        work (Callable[[Task, Key], Result]): Does one; it, tasks, keys and results can be pickled.
        todo (Mapping[Key, Task]): The tasks, by their keys.
        jobs (int): How many at a time, each in a process of its own; at least 1.

    Yields:
        tuple[Key, Result]: Of a task that is done.

    Raises:
        click.ClickException: A process was killed, or what ``work`` raises.
    """
    jobs = min(jobs, len(todo))
    if jobs <= 1:  # another process would take longer to begin
        for key, task in todo.items():
            yield key, work(task, key)
        return
    context = get_context("spawn")  # not forked: tokenizers have threads
    # Nothing is sent. Their end tells workers when ours is closed, as a kill does, too.
    theirs, ours = context.Pipe(duplex=False)
    with theirs, ours, ProcessPoolExecutor(jobs, context, _watch, (theirs,)) as pool:
        running = {pool.submit(work, task, key): key for key, task in todo.items()}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        except BrokenProcessPool as error:
            raise click.ClickException(
                "a process that converts was killed, perhaps for want of memory: give the same "
                "command again, with fewer --jobs"
            ) from error
        except BaseException:
            ours.close()  # else the pool would wait for the parts that are begun
            raise


def _watch(parent: Connection) -> None:
    """What a worker begins with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Connection) -> None:
    parent.poll(None)  # until the other end is closed
    os._exit(1)
