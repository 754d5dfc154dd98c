# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Give back what streaming keeps until the process ends."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from streaming.base.shared import SharedMemory


@contextmanager
def released_shared_memory() -> Iterator[None]:
    """Free the shared memory of the datasets made inside, which streaming does at exit.

    It costs a handful of file handles per dataset, and the more the more datasets there were.
    ``clean_stale_shared_memory`` is no remedy: it takes that of other processes too.
    """
    cleanups: list[Callable[[], None]] = []
    register = atexit.register

    def collect(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if isinstance(getattr(function, "__self__", None), SharedMemory):
            cleanups.append(function)
            return function
        return register(function, *args, **kwargs)

    with patch.object(atexit, "register", collect):
        yield
    for cleanup in cleanups:
        cleanup()
