# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A file is there whole or as it was before, even if the process is killed while it is written."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: str | Path, data: bytes, suffix: str = ".tmp") -> None:
    """Replace the file at ``path`` by ``data`` in one step.

    Args:
        path (str | Path): Its folder has to exist.
        data (bytes): The whole content.
        suffix (str): What the name of the file that it is written to first ends with. Two processes
            that may write the same file at once have different ones. Default: ``".tmp"``.

    Raises:
        OSError: The folder cannot be written.
    """
    path = Path(path)
    # A fixed name: what a killed process left behind is overwritten, not piled up.
    temporary = path.with_name(path.name + suffix)
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
