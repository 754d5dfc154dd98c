# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of Hugging Face data sets on disk, and of parquet and arrow files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import click

_PARQUET, _ARROW = ".parquet", ".arrow"
# Rows that are read at once.
_AT_ONCE = 256


@dataclass(frozen=True)
class Rows:
    """Some rows of a table.

    Attributes:
        path (Path): The table.
        start (int): First row.
        stop (int): First row after them.
        row_bytes (int): What one takes on disk, about.
        group (tuple[int, int]): Of a parquet file: the number of the group that has these rows, and
            its first row.
    """

    path: Path
    start: int
    stop: int
    row_bytes: int
    group: tuple[int, int] = (0, 0)

    @property
    def size(self) -> int:
        """Bytes, about."""
        return (self.stop - self.start) * self.row_bytes


def is_table(path: Path) -> bool:
    """Whether a path is that of a table: a folder that ``save_to_disk`` wrote, or such a file."""
    return path.is_dir() or path.suffix.lower() in (_PARQUET, _ARROW)


def split_of(path: Path, split: str | None) -> Path:
    """The folder of one split of a data set on disk; other paths as they are.

    Args:
        path (Path): A table, or any other input.
        split (str | None): Which, where there are several.

    Raises:
        click.UsageError: There is no such split, or there are none.
    """
    splits = path / "dataset_dict.json"
    if splits.is_file():
        names = json.loads(splits.read_text())["splits"]
        if split is None or split not in names:
            asked = "give --split" if split is None else f"--split {split!r} is none of them"
            raise click.UsageError(f"{path} has the splits {', '.join(names)}: {asked}")
        return path / split
    if split is not None:
        raise click.UsageError(f"{path} has no splits: leave --split out")
    if path.is_dir() and not (path / "state.json").is_file():
        raise click.UsageError(
            f"{path} is no data set that Hugging Face's save_to_disk wrote (it has no state.json): "
            "give one, or files"
        )
    return path


def all_rows(path: Path, keys: Sequence[str]) -> list[Rows]:
    """The whole of a table: each group of rows of a parquet file, and others in one.

    Args:
        path (Path): The table.
        keys (Sequence[str]): Columns that it should have.

    Raises:
        click.ClickException: It cannot be read, the library for it is missing, or a column is.
    """
    try:
        table = _opened(path)
        parquet = path.suffix.lower() == _PARQUET
        counts = (
            [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)]
            if parquet
            else [table.num_rows]
        )
        names = table.schema_arrow.names if parquet else table.column_names
    except click.ClickException:
        raise
    except Exception as error:  # the libraries raise all sorts
        raise click.ClickException(f"{path} cannot be read: {str(error)[:200]}") from error
    for key in keys:
        if key not in names:
            raise click.ClickException(f"{path} has no column {key!r}; it has {sorted(names)}")
    files = path.glob("*.arrow") if path.is_dir() else [path]
    row_bytes = max(1, sum(f.stat().st_size for f in files) // max(sum(counts), 1))
    starts = accumulate(counts, initial=0)
    return [
        Rows(path, start, start + count, row_bytes, (i, start))
        for i, (start, count) in enumerate(zip(starts, counts, strict=False))
    ]


def read_rows(rows: Rows, keys: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of each row, and its columns by name.

    Args:
        rows (Rows): Which.
        keys (Sequence[str]): Which columns; others are not read.
    """
    table = _opened(rows.path)
    if rows.path.suffix.lower() == _PARQUET:
        yield from _read_parquet(table, rows, keys)
        return
    table = table.with_format(None).select_columns(list(keys))  # whatever it was saved with
    for start in range(rows.start, rows.stop, _AT_ONCE):
        some = table[start : min(start + _AT_ONCE, rows.stop)]
        for i, values in enumerate(zip(*(some[key] for key in keys), strict=True), start):
            yield i, dict(zip(keys, values, strict=True))


def _read_parquet(
    table: Any, rows: Rows, keys: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Groups of rows can be skipped, and nothing smaller.

    A group larger than a part is decoded anew for each of its ``k`` parts, up to the part's end:
    ``(k + 1) / 2`` times in all. A tokenizer takes far longer, and works on several parts at once.
    """
    group, stop = rows.group
    for batch in table.iter_batches(_AT_ONCE, row_groups=[group], columns=list(keys)):
        start, stop = stop, stop + len(batch)
        if rows.start < stop:
            first = max(rows.start, start)
            wanted = batch.slice(first - start, rows.stop - first)
            yield from enumerate(wanted.to_pylist(), first)
        if rows.stop <= stop:
            return


@cache
def _opened(path: Path) -> Any:
    """A data set, mapped into memory and not read yet, or a parquet file."""
    try:
        import datasets
        import pyarrow.parquet
    except ImportError as error:
        raise click.ClickException(
            f"{path} is read with Hugging Face's library `datasets`, which is not installed: pip "
            "install 'composer-dataagent[text]'"
        ) from error
    if path.suffix.lower() == _PARQUET:
        return pyarrow.parquet.ParquetFile(path)
    if path.is_dir():
        return datasets.load_from_disk(str(path))
    return datasets.Dataset.from_file(str(path))
