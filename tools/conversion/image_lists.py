# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Lists of image files and their classes: JSON lines, and tables as text."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from conversion.documents import Span, is_lines, records_of
from conversion.listing import Images, listing_of_files, names_a_folder, numbered


def in_list(
    path: Path,
    root: Path,
    keys: Mapping[str, str],
    split_key: str | None,
    classes: Sequence[str] | None,
    missing_ok: bool,
) -> Images:
    """A file that names images and their classes: JSON lines, or CSV with a line of headings.

    Args:
        path (Path): The file.
        root (Path): Paths of images are relative to it.
        keys (Mapping[str, str]): Names of the columns ``image`` and ``label``.
        split_key (str | None): Column of the split. Default: there is one split, without a name.
        classes (Sequence[str] | None): All classes in order. Default: the labels', sorted, if they
            are no whole numbers.
        missing_ok (bool): Whether a missing file is told later.

    Raises:
        click.ClickException: A line lacks a column, or a file is missing.
    """
    wanted = [keys["image"], keys["label"], *([split_key] if split_key else [])]
    rows: dict[str | None, list[tuple[str, Any]]] = {}
    for place, record in _records(path, wanted):
        for key in wanted:
            if record.get(key) in (None, ""):
                raise click.ClickException(f"{place}: there is no {key!r}; it has {sorted(record)}")
        split = str(record[split_key]) if split_key else None
        if split is not None and not names_a_folder(split):
            raise click.ClickException(f"{place}: {split_key}={split!r} is no name of a folder")
        rows.setdefault(split, []).append((str(record[keys["image"]]), record[keys["label"]]))
    if not rows:
        raise click.ClickException(f"{path} names no images")
    known, number = numbered((label for some in rows.values() for _, label in some), classes, path)
    return Images(
        {
            split: listing_of_files(
                root, [(image, number[label]) for image, label in some], missing_ok
            )
            for split, some in rows.items()
        },
        known,
    )


def _records(path: Path, keys: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if is_lines(path):
        yield from records_of(Span(path, 0, path.stat().st_size), keys)
        return
    if path.suffix.lower() not in (".csv", ".tsv"):
        raise click.UsageError(f"{path}: give JSON lines (.jsonl) or a table (.csv, .tsv)")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, delimiter=delimiter, strict=True)
            for key in keys:
                if key not in (table.fieldnames or ()):
                    raise click.ClickException(
                        f"{path} has no column {key!r} but {table.fieldnames}: name yours with "
                        "--image-key and --label-key"
                    )
            for record in table:
                yield f"{path}, line {table.line_num}", record
    except (UnicodeDecodeError, csv.Error) as error:
        raise click.ClickException(f"{path} cannot be read: {error}") from error
