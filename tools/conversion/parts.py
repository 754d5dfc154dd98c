# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of the inputs, each in a folder of its own, and one index over all their shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from composer_dataagent.report.atomic import write_atomically

COUNTS = "counts.json"
INDEX = "index.json"


def folder_of(out: Path, part: int) -> Path:
    """Where a part goes."""
    return out / f"part_{part:05}"


def merged(out: Path, parts: int) -> list[dict[str, Any]]:
    """What the index says of the shards of all parts, in the order of the inputs.

    As ``streaming.base.util.merge_index`` does, which leaves files open.

    Args:
        out (Path): The folder that has the parts.
        parts (int): How many.
    """
    shards: list[dict[str, Any]] = []
    for i in range(parts):
        folder = folder_of(out, i)
        for shard in json.loads((folder / INDEX).read_text())["shards"]:
            for kind in ("raw_data", "zip_data"):
                if shard[kind]:
                    shard[kind]["basename"] = f"{folder.name}/{shard[kind]['basename']}"
            shards.append(shard)
    return shards


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Whole, or not at all."""
    write_atomically(path, json.dumps(facts, indent=1).encode())


def state_of(path: Path) -> tuple[int, int]:
    """Size and time of an input: another one gives other shards."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    states = [file.stat() for file in files]
    return sum(s.st_size for s in states), max((s.st_mtime_ns for s in states), default=0)
