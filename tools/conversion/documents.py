# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Files cut into parts of whole lines, and what is in their lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click


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
    def ends_file(self) -> bool:
        """Whether the file has no more lines."""
        return self.stop >= self.path.stat().st_size


# What is converted at a time: a span of a large file, or several small files.
Part = tuple[Span, ...]


def is_lines(path: Path) -> bool:
    """Whether each line of a file is a document (JSON), not the whole of it."""
    return path.suffix.lower() in (".jsonl", ".ndjson")


def size_of(part: Part) -> int:
    """Bytes of a part."""
    return sum(span.stop - span.start for span in part)


def parts_of(paths: Sequence[Path], part_bytes: int, cut_documents: bool) -> list[Part]:
    """All lines of all files, in order, each in one part.

    Args:
        paths (Sequence[Path]): Files.
        part_bytes (int): Size of a part, at least 1.
        cut_documents (bool): Whether a document may be in several parts.
    """
    parts: list[Part] = []
    for path in paths:
        size = path.stat().st_size
        step = part_bytes if cut_documents or is_lines(path) else max(size, 1)
        for start in range(0, size, step):
            span = Span(path, start, min(start + step, size))
            if parts and size_of((*parts[-1], span)) <= part_bytes:
                parts[-1] = (*parts[-1], span)
            else:
                parts.append((span,))
    return parts


def lines_of(span: Span) -> Iterator[tuple[int, str]]:
    """The lines of a span, with their ends, and where in the file they begin.

    Raises:
        click.ClickException: A line is not UTF-8.
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
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise click.ClickException(
            f"{path}, the line at byte {at}: it is not UTF-8 ({error})"
        ) from error


def values_of(line: str, keys: Sequence[str], place: str) -> list[str]:
    """Texts of a line of JSON.

    Args:
        line (str): One object.
        keys (Sequence[str]): Of the texts.
        place (str): Where the line is, for messages.

    Raises:
        click.ClickException: It is no object, or lacks a key, or has something else there.
    """
    try:
        found: Any = json.loads(line)
    except ValueError as error:
        raise click.ClickException(f"{place}: it is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise click.ClickException(f"{place}: it is a {type(found).__name__}, not an object")
    for key in keys:
        if not isinstance(found.get(key), str):
            is_there = f"is a {type(found[key]).__name__}" if key in found else "is not there"
            raise click.ClickException(
                f"{place}: {key!r} should be a text but {is_there}; the line has {sorted(found)}"
            )
        if any("\ud800" <= character <= "\udfff" for character in found[key]):
            raise click.ClickException(f"{place}: {key!r} has half of a surrogate pair")
    return [found[key] for key in keys]
