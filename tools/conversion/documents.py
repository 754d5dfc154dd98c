# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Files cut into parts of whole lines or rows, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from conversion.tables import Rows, all_rows, is_table, read_rows


@dataclass(frozen=True)
class Span:
    """Some lines of a file: those that begin in a range of its bytes.

    Attributes:
        path (Path): The file.
        start (int): First byte of the range.
        stop (int): First byte after it.
    """

    path: Path
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stop - self.start

    @property
    def ends_file(self) -> bool:
        """Whether the file has no more lines."""
        return self.stop >= self.path.stat().st_size


# What is converted at a time: some of a large file or table, or several small ones.
Piece = Span | Rows
Part = tuple[Piece, ...]


# Files that would be read as plain text, and are something else: what to do with them.
_ROWS = "its rows would be read as plain text: convert it to .parquet or .jsonl"
_PACKED = "it is compressed: unpack it, and give what is in it"
_NO_TEXT = {
    ".json": "give JSON lines (.jsonl), one object in each line",
    **dict.fromkeys((".csv", ".tsv", ".xls", ".xlsx"), _ROWS),
    **dict.fromkeys((".gz", ".tgz", ".zst", ".zip", ".bz2", ".xz", ".7z"), _PACKED),
}


def refuse_no_text(path: Path) -> None:
    """Tell early, by its name, that a file is none that can be read; others tell once they are.

    Args:
        path (Path): A file, or a table.

    Raises:
        click.UsageError: It is not JSON lines, a table or plain text.
    """
    if path.is_file() and (advice := _NO_TEXT.get(path.suffix.lower())):
        raise click.UsageError(f"{path}: {advice}")


def is_lines(path: Path) -> bool:
    """Whether each line of a file is a document (JSON), not the whole of it."""
    return path.suffix.lower() in (".jsonl", ".ndjson")


def has_keys(path: Path) -> bool:
    """Whether documents have named parts: lines of JSON, or rows of a table."""
    return is_lines(path) or is_table(path)


def size_of(part: Part) -> int:
    """Bytes of a part."""
    return sum(piece.size for piece in part)


def parts_of(
    paths: Sequence[Path], part_bytes: int, cut_documents: bool, keys: Sequence[str]
) -> list[Part]:
    """All lines of all files and all rows of all tables, in order, each in one part.

    Args:
        paths (Sequence[Path]): Files and tables.
        part_bytes (int): Size of a part, at least 1.
        cut_documents (bool): Whether a document may be in several parts.
        keys (Sequence[str]): Columns that tables should have.

    Raises:
        click.ClickException: A table cannot be read.
    """
    parts: list[list[Piece]] = []
    room = 0
    for path in paths:
        for piece in _pieces_of(path, part_bytes, cut_documents, keys):
            if not parts or piece.size > room:
                parts.append([])
                room = part_bytes
            parts[-1].append(piece)
            room -= piece.size
    return [tuple(part) for part in parts]


def _pieces_of(
    path: Path, part_bytes: int, cut_documents: bool, keys: Sequence[str]
) -> Iterator[Piece]:
    if is_table(path):
        for rows in all_rows(path, keys):
            yield from _cut(rows, max(1, part_bytes // rows.row_bytes))
    else:
        whole = Span(path, 0, path.stat().st_size)
        step = part_bytes if cut_documents or is_lines(path) else max(whole.stop, 1)
        yield from _cut(whole, step)


def _cut(whole: Piece, step: int) -> Iterator[Piece]:
    for start in range(whole.start, whole.stop, step):
        yield replace(whole, start=start, stop=min(start + step, whole.stop))


def records_of(piece: Piece, keys: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The documents of a piece that has named parts, and where each is, for messages.

    Args:
        piece (Piece): Of a file of JSON lines, of which blank ones are skipped, or of a table.
        keys (Sequence[str]): Columns of a table that are read.

    Raises:
        click.ClickException: A line is no text in UTF-8, or no JSON object.
    """
    if isinstance(piece, Rows):
        for row, record in read_rows(piece, keys):
            yield f"{piece.path}, row {row}", record
        return
    for at, line in lines_of(piece):
        if line.strip():
            place = f"{piece.path}, the line at byte {at}"
            yield place, _object(line, place)


def lines_of(span: Span) -> Iterator[tuple[int, str]]:
    """The lines of a span, with their ends, and where in the file they begin.

    Raises:
        click.ClickException: A line is no text in UTF-8.
    """
    with span.path.open("rb") as file:
        if span.start:
            # The line that the byte before belongs to began in an earlier span.
            file.seek(span.start - 1)
            file.readline()
        while (at := file.tell()) < span.stop:
            text = _text(file.readline(), span.path, at)
            yield at, text if at else text.removeprefix("\ufeff")  # a byte order mark


def _text(line: bytes, path: Path, at: int) -> str:
    place = f"{path}, the line at byte {at}"
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{place}: it is not UTF-8 ({error})") from error
    if "\0" in text:  # of archives and arrays, where they happen to be UTF-8
        raise click.ClickException(f"{place}: it is no text (there is a byte 0 in it)")
    return text


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        found: Any = json.loads(line)
    except ValueError as error:
        raise click.ClickException(f"{place}: it is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise click.ClickException(f"{place}: it is a {type(found).__name__}, not an object")
    return found


def text_in(record: Mapping[str, Any], key: str, place: str) -> str:
    """A text of a document.

    Args:
        record (Mapping[str, Any]): The document.
        key (str): Of the text.
        place (str): Where the document is, for messages.

    Raises:
        click.ClickException: It lacks the key, or has something else there.
    """
    text = record.get(key)
    if not isinstance(text, str):
        raise _wrong(record, key, place, "a text")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise click.ClickException(f"{place}: {key!r} has half of a surrogate pair")
    return text


def label_in(record: Mapping[str, Any], key: str, place: str) -> int:
    """The class of a document, a whole number of at least 0.

    Args:
        record (Mapping[str, Any]): The document.
        key (str): Of the class.
        place (str): Where the document is, for messages.

    Raises:
        click.ClickException: It lacks the key, or has something else there.
    """
    label = record.get(key)
    if not isinstance(label, int) or isinstance(label, bool) or label < 0:
        raise _wrong(record, key, place, "the number of a class (0, 1, ...)")
    return label


def _wrong(record: Mapping[str, Any], key: str, place: str, wanted: str) -> click.ClickException:
    found = repr(record[key])[:40] if isinstance(record.get(key), int) else ""
    is_there = f"is a {type(record[key]).__name__} {found}" if key in record else "is not there"
    return click.ClickException(
        f"{place}: {key!r} should be {wanted} but {is_there.strip()}; it has {sorted(record)}"
    )
