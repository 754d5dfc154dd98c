# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The folder that a converter writes to, of texts or images, whole or killed half-way."""

from __future__ import annotations

import hashlib
import subprocess
import time
from pathlib import Path
from typing import Any


def files_of(folder: Path) -> dict[str, str]:
    """Digests of all that a reader can see."""
    files = [*folder.glob("index.json"), *folder.glob("part_*/*")]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def killed_after_a_part(process: subprocess.Popen[Any], out: Path) -> dict[Path, int]:
    """Kill a conversion once it has a part: those that it has then, and when they were written."""
    while not list(out.glob("part_?????")):
        assert process.poll() is None
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (out / "index.json").exists()
    return {folder: folder.stat().st_mtime_ns for folder in out.glob("part_?????")}
