# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""JSON lines to train and to evaluate on, which replace others only if that is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from composer_dataagent.report.atomic import write_atomically

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace files that are there.")


def refuse_to_replace(out: Path, overwrite: bool) -> None:
    """Before anything is made that could not be written.

    Args:
        out (Path): The folder of both files.
        overwrite (bool): Whether they may be replaced.

    Raises:
        click.ClickException: One is there, and may not.
    """
    for path in (out / "eval.jsonl", out / "train.jsonl"):
        if path.exists() and not overwrite:
            raise click.ClickException(f"{path} is there: give another --out, or --overwrite")


def write_split(out: Path, split: str, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write one of them, whole or not at all.

    Args:
        out (Path): The folder; made where it is not there.
        split (str): ``train`` or ``eval``.
        rows (Iterable[Mapping[str, Any]]): An object for each line.

    Returns:
        Path: The file.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{split}.jsonl"
    write_atomically(path, "".join(f"{json.dumps(row)}\n" for row in rows).encode())
    return path
