# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Parts converted by several processes, none of which outlives the one that began them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

import click

from conversion.documents import Part
from conversion.shards import Conversion, convert_part


def converted(conversion: Conversion, todo: Mapping[Path, Part], jobs: int) -> Iterator[Path]:
    """Convert parts, in whatever order.

    Args:
        conversion (Conversion): What is asked for.
        todo (Mapping[Path, Part]): The parts, by the folders that they are written to.
        jobs (int): How many at a time, each in a process of its own; at least 1.

    Yields:
        Path: A folder that is written.

    Raises:
        click.ClickException: A line cannot be read, or a process was killed.
    """
    jobs = min(jobs, len(todo))
    if jobs <= 1:  # another process would take longer to begin
        for folder, part in todo.items():
            convert_part(conversion, part, folder)
            yield folder
        return
    context = get_context("spawn")  # not forked: tokenizers have threads
    # Nothing is sent. Their end tells workers when ours is closed, as a kill does, too.
    theirs, ours = context.Pipe(duplex=False)
    with theirs, ours, ProcessPoolExecutor(jobs, context, _watch, (theirs,)) as pool:
        running = {
            pool.submit(convert_part, conversion, part, folder): folder
            for folder, part in todo.items()
        }
        try:
            for done in as_completed(running):
                done.result()
                yield running[done]
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
