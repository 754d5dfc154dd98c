# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which images there are, and of which class: from folders of classes, and from lists of files."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import click
import numpy as np
import xxhash
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from conversion.documents import Span, is_lines, records_of

# What a folder is called that has a split, not a class.
SPLITS = ("train", "val", "valid", "validation", "eval", "test")


class Item(NamedTuple):
    """An image before it is read.

    Attributes:
        key (str | int): What its source knows it by.
        label (int | None): Number of its class; None where the source tells it with the image.
        size (int): Bytes, about.
    """

    key: str | int
    label: int | None
    size: int


class Source(Protocol):
    """Where images are read from; can be pickled."""

    def read(self, key: Any) -> tuple[bytes | Image.Image, int | None]:
        """An image as it is kept, or decoded, and its class if the source is what tells it."""
        ...

    def name(self, key: Any) -> str:
        """What people find the image by."""
        ...


@dataclass(frozen=True)
class Listing:
    """The images of a split.

    Attributes:
        source (Source): Reads them.
        items (list[Item]): The images.
        state (str): Another one, other images: names, sizes and times of what is read, as a digest.
        encoding (str): Streaming's name for what they mostly are, ``jpeg`` or ``png``; either reads
            both.
    """

    source: Source
    items: list[Item]
    state: str
    encoding: str


@dataclass(frozen=True)
class Images:
    """What is converted.

    Attributes:
        splits (dict[str | None, Listing]): By name; of a source that has none, the one of None.
        classes (list[str] | None): Names of the classes ``0, 1, ...``; None if nothing tells them.
        notes (tuple[str, ...]): What the user should know. Default: nothing.
        scratch (Path | None): A folder that is of no use once they are converted. Default: none.
    """

    splits: dict[str | None, Listing]
    classes: list[str] | None
    notes: tuple[str, ...] = ()
    scratch: Path | None = None


@dataclass(frozen=True)
class Files:
    """Files below a folder.

    Attributes:
        root (str): The folder.
    """

    root: str

    def read(self, key: str) -> tuple[bytes, None]:
        """A file as it is."""
        return Path(self.root, key).read_bytes(), None

    def name(self, key: str) -> str:
        """Its path."""
        return os.path.join(self.root, key)


def listing_of_files(root: Path, labelled: Sequence[tuple[str, int]], missing_ok: bool) -> Listing:
    """Files by their paths, with their classes.

    Args:
        root (Path): Paths are relative to it.
        labelled (Sequence[tuple[str, int]]): Path and class.
        missing_ok (bool): Whether it is told later that a file is missing.

    Raises:
        click.ClickException: A file is missing.
    """
    digest = xxhash.xxh64()
    items = []
    for path, label in labelled:
        try:
            state = os.stat(root / path)
        except OSError as error:
            if not missing_ok:
                raise click.ClickException(
                    f"{root / path} cannot be read: {error.strerror}. Put it there, or give "
                    "--skip-broken"
                ) from error
            state = None
        size, time = (0, 0) if state is None else (state.st_size, state.st_mtime_ns)
        digest.update(f"{path}\0{label}\0{size}\0{time}\n".encode("utf-8", "surrogateescape"))
        items.append(Item(path, label, size))
    only_png = all(path.lower().endswith(".png") for path, _ in labelled)
    return Listing(Files(str(root)), items, digest.hexdigest(), "png" if only_png else "jpeg")


def in_folders(root: Path, wanted: Sequence[str], classes: Sequence[str] | None) -> Images:
    """A folder with a folder of images for each class, or with such a folder for each split.

    Args:
        root (Path): The folder.
        wanted (Sequence[str]): Names of splits; none: all, if its folders are named like splits.
        classes (Sequence[str] | None): All classes in order. Default: the folders', sorted.

    Raises:
        click.ClickException: A folder has no images, or is none of the classes.
    """
    inside = _folders(root)
    splits: list[str | None] = [*wanted]
    if not wanted:
        named = [name for name in SPLITS if name in inside]
        if named and set(named) != {*inside}:
            others = ", ".join(sorted({*inside} - {*named})[:3])
            raise click.UsageError(
                f"{root} has {', '.join(named)} and also {others}: say with --split which of its "
                "folders are splits, or name a folder that has a folder for each class"
            )
        splits = [*named] or [None]
    for split in wanted:
        if split not in inside:
            raise click.UsageError(f"--split {split}: {root} has no such folder, but {inside}")
    folders = {split: root / (split or "") for split in splits}
    classes_of = {split: _folders(folder) for split, folder in folders.items()}
    known = (
        [*classes] if classes else sorted({name for some in classes_of.values() for name in some})
    )
    numbers = {name: i for i, name in enumerate(known)}
    listings: dict[str | None, Listing] = {}
    notes = []
    for split, folder in folders.items():
        if not classes_of[split]:
            raise click.ClickException(
                f"{folder} has no folders: there should be one for each class, with its images"
            )
        labelled, others = [], 0
        for name in classes_of[split]:
            if name not in numbers:
                raise click.ClickException(f"{folder / name} is none of the {len(known)} --classes")
            images, no_images = _images(folder, name)
            if not images:
                raise click.ClickException(
                    f"{folder / name} has no images ({', '.join(IMG_EXTENSIONS)}): remove it, or "
                    "put some there"
                )
            labelled += [(image, numbers[name]) for image in images]
            others += no_images
        if others:
            notes.append(f"{folder}: {others:,} files are no images by their names: left out")
        if lacking := [name for name in known if name not in classes_of[split]]:
            notes.append(f"{folder}: no images of {len(lacking)} classes ({lacking[0]}, ...)")
        listings[split] = listing_of_files(folder, labelled, missing_ok=False)
    return Images(listings, known, tuple(notes))


def _folders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path, name: str) -> tuple[list[str], int]:
    """Paths of the images of a class, sorted, and how many other files there are."""
    images, others = [], 0
    for where, _, files in os.walk(folder / name, followlinks=True):
        for file in files:
            if file.lower().endswith(IMG_EXTENSIONS):
                images.append(os.path.relpath(os.path.join(where, file), folder))
            else:
                others += not file.startswith(".")
    return sorted(images), others


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
        if split is not None and (split in (".", "..") or "/" in split or "\\" in split):
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


def numbered(
    labels: Iterable[Any], classes: Sequence[str] | None, where: object
) -> tuple[list[str] | None, dict[Any, int]]:
    """The numbers of classes: those that labels are, or of their names in order.

    Args:
        labels (Iterable[Any]): Whole numbers (in a table, digits), or names.
        classes (Sequence[str] | None): All names in order. Default: the labels, sorted.
        where (object): What has the labels, for messages.

    Returns:
        tuple[list[str] | None, dict[Any, int]]: Names of the classes, if anything tells them, and
        label to number.

    Raises:
        click.ClickException: A label is none of the classes.
    """
    different = dict.fromkeys(labels)
    digits = {
        label: int(label)
        for label in different
        if (type(label) is int and label >= 0) or (isinstance(label, str) and label.isdecimal())
    }
    if classes is not None and not {*different} <= {*classes}:
        if len(digits) == len(different) and max(digits.values()) < len(classes):
            return [*classes], digits
        wrong = next(label for label in different if label not in classes)
        raise click.ClickException(f"{where}: the class {wrong!r} is none of the --classes")
    if classes is None and len(digits) == len(different):
        return None, digits
    if wrong := [label for label in different if not isinstance(label, str)]:
        raise click.ClickException(
            f"{where}: {wrong[0]!r} is no class: give names, or whole numbers from 0, for all"
        )
    known = sorted(different) if classes is None else [*classes]
    return known, {name: i for i, name in enumerate(known)}


def shuffled(listing: Listing, seed: int | None) -> list[Item]:
    """The images in the order in which they are written; without a seed, as they are."""
    if seed is None:
        return listing.items
    order = np.random.default_rng(seed).permutation(len(listing.items))
    return [listing.items[i] for i in order]
