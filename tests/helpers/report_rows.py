# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Histories with the fewest facts that a test needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from composer_dataagent.report import History, Run


def make_run(
    selector: str,
    rows: list[dict[str, Any]],
    *,
    path: str = "runs/a",
    recipe: dict[str, Any] | None = None,
    **meta: Any,
) -> Run:
    """A run that exists in memory only."""
    meta = {"run_name": "a", "selector": selector, **meta}
    return Run(Path(path), meta, rows, recipe=recipe or {})


def write_rows(
    run_dir: Path, epochs: int, run_name: str = "first", begin_at: int = 0, **arguments: Any
) -> History:
    """Begin at an epoch and append rows until ``epochs`` are done."""
    history = History(run_dir, **arguments)
    history.begin({"run_name": run_name, "selector": "data_agent"}, begin_at, begin_at > 0)
    for epoch in range(begin_at, epochs):
        history.append({"epoch": epoch, "by": run_name})
    return history
