# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""One command at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from filelock import FileLock, Timeout

# Hidden, for it stays: to remove it would let two commands hold locks of two files of its name.
LOCK = ".lock"


@contextmanager
def held(folder: Path, refusal: str) -> Iterator[None]:
    """Hold a folder's lock; a process that ends gives it back, however it ends.

    Args:
        folder (Path): It is there.
        refusal (str): What is said where another process holds it.

    Raises:
        click.ClickException: Another one does.
    """
    holder = FileLock(folder / LOCK)
    try:
        holder.acquire(timeout=0)
    except Timeout as error:
        raise click.ClickException(refusal) from error
    try:
        yield
    finally:
        holder.release()
