# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""One command at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from filelock import FileLock, Timeout


@contextmanager
def held(lock: Path, refusal: str) -> Iterator[None]:
    """Hold a lock; a process that ends gives it back, however it ends.

    Args:
        lock (Path): Its file.
        refusal (str): What is said where another process holds it.

    Raises:
        click.ClickException: Another one does.
    """
    holder = FileLock(lock)
    try:
        holder.acquire(timeout=0)
    except Timeout as error:
        raise click.ClickException(refusal) from error
    try:
        yield
    finally:
        holder.release()
