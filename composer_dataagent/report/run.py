# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reading a run folder back."""

from __future__ import annotations

import contextlib
import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer_dataagent.report.pulse import Standing, read_standing
from composer_dataagent.report.thumbnails import Thumbnail
from composer_dataagent.report.wording import number

META = "meta.json"
RECIPE = "recipe.json"  # written by `composer-dataagent train`
FINISHED = "finished"  # likewise, once the recipe has been run to its end
ROWS = "history.jsonl"
LEDGER = "ledger.npz"
SAMPLES = "samples.json"
PICTURES = "samples"
# What has parts is of one kind, or absent; a number that is none counts as unknown.
_PARTS = {
    "metrics": dict,
    "ppo": dict,
    "class_selected": dict,
    "class_total": dict,
    "shard_selected": dict,
    "shard_total": dict,
    "action_histogram": list,
}
# Columns of the ledger that count or name something.
_WHOLE_NUMBERS = {"visits", "label", "predicted"}


@dataclass(frozen=True)
class Run:
    """What a run folder tells.

    Attributes:
        path (Path): The folder.
        meta (dict[str, Any]): Name and settings of the run.
        rows (list[dict[str, Any]]): One a finished epoch (or round, see :attr:`step`), in order;
            what was NaN or infinite is None.
        ledger (dict[str, NDArray]): Columns ``[N]`` by name as of the last row; empty if absent.
        samples (dict[int, Thumbnail]): Sample id to what can be shown of it; empty if absent.
        recipe (dict[str, Any]): What the run was made from; empty if it was not made from a recipe.
        standing (Standing | None): Whether it went on when it was read; None of a run that was not
            read from a folder.
    """

    path: Path
    meta: dict[str, Any]
    rows: list[dict[str, Any]]
    ledger: dict[str, NDArray] = field(default_factory=dict)
    samples: dict[int, Thumbnail] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    standing: Standing | None = None

    @property
    def step(self) -> str:
        """What each row is of: an ``epoch``, or a ``round``, where epochs come in several."""
        settings = self.meta.get("settings")
        in_rounds = isinstance(settings, dict) and settings.get("interval") is not None
        return "round" if in_rounds else "epoch"

    def class_name(self, label: int) -> str:
        """Name of class ``label``, or its number where the run does not name it."""
        names = self.meta.get("class_names")
        named = isinstance(names, list) and 0 <= label < len(names)
        return str(names[label]) if named and names is not None else str(label)


def read_run(run_dir: str | Path) -> Run:
    """Read the history that ``DataAgent(run_dir=...)`` wrote, also while the run goes on.

    Args:
        run_dir (str | Path): The run folder.

    Returns:
        Run: All that is in it. A last line that a killed run left half written is passed over.

    Raises:
        FileNotFoundError: There is no such folder, or no history in it.
        ValueError: A file is damaged; the message names file and line.
    """
    path = Path(run_dir)
    if not path.is_dir():
        raise FileNotFoundError(f"There is no run folder {path}")
    if not (path / META).is_file():
        raise FileNotFoundError(
            f"There is no history in {path}: give DataAgent(run_dir=...) a folder, or run "
            "`composer-dataagent train`, and pass that run's folder here"
        )
    run = Run(
        path,
        read_meta(path),
        read_rows(path),
        _read_ledger(path),
        _read_samples(path),
        _read_object(path / RECIPE),
    )
    return look_again(run)


def look_again(run: Run) -> Run:
    """The same run with what its folder now says of whether it goes on."""
    of = run.meta.get("num_epochs")
    known = of if type(of) is int else None
    done = epochs_done(run.rows)
    standing = read_standing(run.path, run.path / ROWS, done, known, time.time())
    return replace(run, standing=standing)


def epochs_done(rows: Sequence[Mapping[str, Any]]) -> float:
    """How many epochs were done when the last of some rows was written; 0 without rows."""
    if not rows:
        return 0.0
    told = number(rows[-1].get("epochs"))
    return rows[-1]["epoch"] + 1.0 if told != told else told


def read_meta(path: Path) -> dict[str, Any]:
    """``meta.json`` of a run folder; empty if there is none."""
    return _read_object(path / META)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a run folder without a half-written last one; empty if there are none."""
    file = path / ROWS
    if not file.exists():
        return []
    *lines, rest = file.read_bytes().split(b"\n")
    rows = [_object(line, file, at) for at, line in enumerate(lines, 1)]
    if rest:  # A line without its end: the writer was killed, maybe just before the newline.
        with contextlib.suppress(ValueError):
            rows.append(_object(rest, file, len(lines) + 1))
    before = -1
    for at, row in enumerate(rows, 1):
        epoch = row.get("epoch")
        if type(epoch) is not int or epoch <= before:
            raise _damaged(file, at, f"epoch is {epoch!r:.40}, expected more than {before}")
        before = epoch
        for name, kind in _PARTS.items():
            if not isinstance(row.get(name), kind | None):
                raise _damaged(file, at, f"{name} is {row[name]!r:.40}")
    return rows


def _read_object(file: Path) -> dict[str, Any]:
    try:
        return _object(file.read_bytes(), file, 1)
    except FileNotFoundError:
        return {}


def _object(text: bytes, file: Path, line: int) -> dict[str, Any]:
    try:
        value = json.loads(text.decode("utf-8", "replace"))
    except json.JSONDecodeError as error:
        raise _damaged(file, line + error.lineno - 1, error.msg) from error
    if not isinstance(value, dict):
        raise _damaged(file, line, "expected a JSON object")
    return value


def _damaged(file: Path, line: int, what: str) -> ValueError:
    return ValueError(
        f"{file}, line {line}: damaged, {what}. Remove the damaged file, or the run folder, and "
        "train again"
    )


def _read_ledger(path: Path) -> dict[str, NDArray]:
    file = path / LEDGER
    if not file.exists():
        return {}
    try:
        if not zipfile.is_zipfile(file):
            raise ValueError("not an archive")
        with np.load(file, allow_pickle=False) as archive:
            columns = {name: np.asarray(column) for name, column in archive.items()}
        for name, column in columns.items():
            kinds = "iu" if name in _WHOLE_NUMBERS else "biuf"
            if column.ndim != 1 or column.dtype.kind not in kinds:
                raise ValueError(f"{name} has {column.dtype}{list(column.shape)}")
        if len(set(map(len, columns.values()))) > 1:
            raise ValueError("columns differ in length")
    except Exception as error:  # Foreign bytes make the reader raise anything.
        if not file.exists():  # a run that began anew has just removed it
            return {}
        raise ValueError(f"{file}: damaged, {error}. Remove it to read the rest") from error
    return columns


def _read_samples(path: Path) -> dict[int, Thumbnail]:
    file = path / SAMPLES
    samples: dict[int, Thumbnail] = {}
    for key, text in _read_object(file).items():
        if not key.isdecimal():  # No sample has such an id: nothing is lost.
            continue
        # File names are made from numbers only, so that no entry can point out of the folder.
        picture = path / PICTURES / f"{int(key)}.png"
        png = None
        # There is none, or a run that goes on has just removed it; and a folder is none.
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            png = picture.read_bytes()
        samples[int(key)] = {"png": png, "text": text if isinstance(text, str) else None}
    return samples
