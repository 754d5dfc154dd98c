# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Images in Hugging Face data sets on disk, and in parquet files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import click
import xxhash
from PIL import Image

from conversion.listing import Images, Item, Listing, names_a_folder, numbered
from conversion.parts import state_of

_PARQUET = ".parquet"


@dataclass(frozen=True)
class ImageRows:
    """Rows of a data set.

    Attributes:
        paths (tuple[str, ...]): A folder that ``save_to_disk`` wrote, or parquet files.
        cache (str | None): Folder where rows of parquet files are unpacked, so that any can be read
            at once.
        image (str): Column of the image.
        label (str): Column of its class.
    """

    paths: tuple[str, ...]
    cache: str | None
    image: str
    label: str

    def read(self, key: int) -> tuple[bytes | Image.Image, None]:
        """An image as it is kept."""
        image = _images(self)[key][self.image]
        if isinstance(image, dict):  # as Hugging Face's Image is kept
            image = image["bytes"] or Path(image["path"]).read_bytes()
        if not isinstance(image, bytes | Image.Image):
            raise ValueError(f"there is no image in {self.image!r} but a {type(image).__name__}")
        return image, None

    def labels(self) -> list[Any]:
        """What all rows have for a class."""
        table = _opened(self.paths, self.cache).with_format(None)
        return table.select_columns([self.label])[:][self.label]

    def name(self, key: int) -> str:
        """Data set and row."""
        return f"{self.paths[0]}, row {key}"


@cache
def _opened(paths: tuple[str, ...], cache: str | None) -> Any:
    """A data set whose rows are mapped into memory."""
    try:
        import datasets
    except ImportError as error:
        raise click.ClickException(
            f"{paths[0]} is read with Hugging Face's library `datasets`, which is not installed: "
            "pip install 'composer-dataagent[text]'"
        ) from error
    try:
        if cache is None:
            return datasets.load_from_disk(paths[0])
        return datasets.Dataset.from_parquet([*paths], cache_dir=cache)
    except Exception as error:  # the library raises all sorts
        raise click.ClickException(f"{paths[0]} cannot be read: {str(error)[:300]}") from error


@cache
def _images(source: ImageRows) -> Any:
    """The images, as they are kept."""
    import datasets

    table = _opened(source.paths, source.cache).with_format(None)
    table = table.select_columns([source.image])
    if isinstance(table.features[source.image], datasets.Image):
        table = table.cast_column(source.image, datasets.Image(decode=False))
    return table


def of_hugging_face(
    paths: Sequence[Path],
    wanted: Sequence[str],
    image: str,
    label: str,
    classes: Sequence[str] | None,
    cache: Path,
) -> Images:
    """Data sets that ``save_to_disk`` wrote, and parquet files.

    Args:
        paths (Sequence[Path]): A folder of such a data set, one of parquet files, which then begin
            with the names of their splits (``train-00000-of-00004.parquet``) or are in folders of
            these names (``train/0000.parquet``), or parquet files.
        wanted (Sequence[str]): Names of splits. Default: all.
        image (str): Column of the image.
        label (str): Column of its class.
        classes (Sequence[str] | None): All classes in order. Default: those of the data set.
        cache (Path): Folder for rows of parquet files while they are converted.

    Raises:
        click.ClickException: There is no such data set, split or column.
    """
    known: list[str] | None = [*classes] if classes else None
    listings: dict[str | None, Listing] = {}
    tables = {
        split: ImageRows(files, None if _is_saved(files) else str(cache), image, label)
        for split, files in _splits(paths, wanted).items()
    }
    features = {
        split: _features(source, _opened(source.paths, source.cache))
        for split, source in tables.items()
    }
    names = {tuple(each) for each in features.values() if each is not None}
    if len(names) > 1:
        raise click.ClickException(f"the splits {[*tables]} have other classes each")
    labels_of = {split: source.labels() for split, source in tables.items()}
    numbers: dict[Any, int] | None = None
    if names:
        own = names.pop()
        if known is not None and known != [*own]:  # in an order of the user's
            _, number = numbered(own, known, paths[0])
            numbers = {i: number[name] for i, name in enumerate(own)}
        known = known or [*own]
    else:
        known, numbers = numbered(chain.from_iterable(labels_of.values()), known, label)
    for split, source in tables.items():
        labels = labels_of[split]
        if numbers is not None:  # -1 is none of them, and refused with the image
            labels = [None if each is None else numbers.get(each, -1) for each in labels]
        listings[split] = _listing(source, labels)
    is_unpacked = any(source.cache is not None for source in tables.values())
    return Images(listings, known, scratch=cache if is_unpacked else None)


def _is_saved(files: tuple[str, ...]) -> bool:
    return not files[0].lower().endswith(_PARQUET)


def _splits(paths: Sequence[Path], wanted: Sequence[str]) -> dict[str | None, tuple[str, ...]]:
    """Paths of each split."""
    first = paths[0]
    found: dict[str | None, tuple[str, ...]] = {}
    if first.is_dir() and len(paths) > 1:
        raise click.UsageError(f"give one folder, or parquet files, not {first} and others")
    if (first / "dataset_dict.json").is_file():
        names = json.loads((first / "dataset_dict.json").read_text())["splits"]
        for name in names:
            if not names_a_folder(name):
                raise click.ClickException(f"{first}: the split {name!r} is no name of a folder")
        found = {name: (str(first / name),) for name in names}
    elif (first / "state.json").is_file():
        found = {None: (str(first),)}
    elif first.is_dir():
        files = sorted(file for file in first.rglob(f"*{_PARQUET}"))
        for file in files:
            split = re.split(r"[-.]", file.name)[0]
            if split.isdecimal():  # train/0000.parquet, as Hugging Face keeps what it converted
                split = None if file.parent == first else file.parent.name
            found[split] = (*found.get(split, ()), str(file))
        for split, names in found.items():
            if len(folders := sorted({os.path.dirname(name) for name in names})) > 1:
                raise click.UsageError(
                    f"{folders[0]} and {folders[1]} both have files of the split {split}, "
                    "which may be of two configurations: give one folder, or name the files"
                )
        if not files:
            raise click.UsageError(
                f"{first} has no parquet files, and is no data set that Hugging Face's "
                "save_to_disk wrote (it has no state.json)"
            )
    else:
        for path in paths:
            if path.suffix.lower() != _PARQUET:
                raise click.UsageError(f"{path}: give a folder, or .parquet files")
        found = {None: tuple(map(str, paths))}
    for split in wanted:
        if split not in found:
            has = "no splits" if None in found else f"the splits {', '.join(map(str, found))}"
            raise click.UsageError(f"--split {split}: {first} has {has}")
    return {split: files for split, files in found.items() if not wanted or split in wanted}


def _features(source: ImageRows, table: Any) -> list[str] | None:
    """Names of the classes, if the data set tells them."""
    for option, column in (("--image-key", source.image), ("--label-key", source.label)):
        if column not in table.column_names:
            raise click.ClickException(
                f"{source.paths[0]} has no column {column!r} but {table.column_names}: name yours "
                f"with {option}"
            )
    return getattr(table.features[source.label], "names", None)


def _listing(source: ImageRows, labels: Sequence[int | None]) -> Listing:
    if not labels:
        raise click.ClickException(f"{source.paths[0]} has no rows")
    states = [state_of(Path(path)) for path in source.paths]
    size = max(1, sum(size for size, _ in states) // len(labels))
    try:
        begin = source.read(0)[0]
    except (ValueError, OSError) as error:
        raise click.ClickException(f"{source.name(0)}: {error}") from error
    is_png = not isinstance(begin, bytes) or begin.startswith(b"\x89PNG")
    return Listing(
        source,
        [Item(i, label, size) for i, label in enumerate(labels)],
        xxhash.xxh64(f"{[os.path.abspath(p) for p in source.paths]} {states}").hexdigest(),
        "png" if is_png else "jpeg",
    )
