# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which images there are, and of which class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import click
import numpy as np
import xxhash
from PIL import Image

# Where classes are numbers, this many for each that occurs are no longer a few that are missing.
_SPARSE = 10


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
        except (OSError, ValueError) as error:  # of a path with a 0 in it
            if not missing_ok:
                why = getattr(error, "strerror", None) or error
                raise click.ClickException(
                    f"{root / path} cannot be read: {why}. Put it there, or give --skip-broken"
                ) from error
            state = None
        size, time = (0, 0) if state is None else (state.st_size, state.st_mtime_ns)
        digest.update(f"{path}\0{label}\0{size}\0{time}\n".encode("utf-8", "surrogateescape"))
        items.append(Item(path, label, size))
    only_png = all(path.lower().endswith(".png") for path, _ in labelled)
    return Listing(Files(str(root)), items, digest.hexdigest(), "png" if only_png else "jpeg")


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
    labels = [*labels]
    if odd := [label for label in labels if not isinstance(label, str | int)]:
        raise click.ClickException(
            f"{where}: {odd[0]!r} is no class: give names, or whole numbers from 0, for all"
        )
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
        if (most := max(digits.values(), default=0)) >= _SPARSE * max(len(different), 100):
            raise click.ClickException(
                f"{where}: the class {most} is one of {len(different)}: number them from 0, or "
                "give --classes"
            )
        return None, digits
    if wrong := [label for label in different if not isinstance(label, str)]:
        raise click.ClickException(
            f"{where}: {wrong[0]!r} is no class: give names, or whole numbers from 0, for all"
        )
    known = sorted(different) if classes is None else [*classes]
    return known, {name: i for i, name in enumerate(known)}


def names_a_folder(split: str) -> bool:
    """Whether a split can be a folder inside of another, and of that only."""
    return (
        split not in ("", ".", "..", "recipe.yaml")
        and split == split.strip()
        and split.isprintable()
        and not {*"/\\"} & {*split}
    )


def held_out(images: Images, fraction: float, seed: int) -> Images:
    """Make a split ``val`` of some images of the only one, which is ``train`` if it has no name.

    Of each class the same share, to one image, where classes are known before images are read.

    Args:
        images (Images): Of one split.
        fraction (float): How many, between 0 and 1.
        seed (int): Of the choice.

    Raises:
        click.UsageError: There are other splits, or none are or are left.
    """
    names = [name or "train" for name in images.splits]
    if len(names) > 1 or "val" in names:
        raise click.UsageError(
            f"--hold-out makes a split val, and there is {' and '.join(names)}: leave it out, or "
            "give one other --split"
        )
    (listing,) = images.splits.values()
    count = len(listing.items)
    labels = np.array([-1 if item.label is None else item.label for item in listing.items])
    by_class = np.lexsort((np.random.default_rng(seed).random(count), labels))
    is_held = np.empty(count, bool)
    is_held[by_class] = np.diff(np.floor(np.arange(count + 1) * fraction)) > 0
    if is_held.all() or not is_held.any():
        raise click.UsageError(
            f"--hold-out {fraction:g} of {count:,} images are {is_held.sum():,}: give another one"
        )

    def part(held: bool) -> Listing:
        items = [listing.items[i] for i in np.flatnonzero(is_held == held)]
        return replace(listing, items=items, state=f"{listing.state} ({fraction:g}, seed {seed})")

    return replace(images, splits={names[0]: part(False), "val": part(True)})


def shuffled(listing: Listing, seed: int | None) -> list[Item]:
    """The images in the order in which they are written; without a seed, as they are."""
    if seed is None:
        return listing.items
    order = np.random.default_rng(seed).permutation(len(listing.items))
    return [listing.items[i] for i in order]
