# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of the images as shards, and what became of them."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from streaming import MDSWriter
from streaming.base.format import reader_from_json

from conversion.images import Stored, stored_image
from conversion.listing import Item, Source
from conversion.parts import COUNTS, INDEX, folder_of
from conversion.stored import DamagedError, samples_of, unpacked

# What an MDS shard has besides the images: of itself, about; and of each sample exactly, which is
# where it begins, the size of the image and the label.
_SHARD_BYTES, _SAMPLE_BYTES = 512, 4 + 4 + 8
ImagePart = tuple[Item, ...]


@dataclass
class ImageCounts:
    """What became of the images.

    Attributes:
        images (int): That were read.
        samples (int): That were written.
        encoded (int): Of these, not as the bytes that were read.
        of_class (Counter[int]): Samples of each class.
        of_mode (Counter[str]): Samples that are grey (``L``) and in colour (``RGB``).
        widths (list[int]): The smallest and the largest, in pixels; empty if there are none.
        heights (list[int]): Likewise.
        skipped (list[list[str]]): Name of each image that is broken, and what is wrong.
    """

    images: int = 0
    samples: int = 0
    encoded: int = 0
    of_class: Counter[int] = field(default_factory=Counter)
    of_mode: Counter[str] = field(default_factory=Counter)
    widths: list[int] = field(default_factory=list)
    heights: list[int] = field(default_factory=list)
    skipped: list[list[str]] = field(default_factory=list)

    def add(self, image: Stored, label: int) -> None:
        """Count a sample."""
        self.samples += 1
        self.encoded += not image.kept
        self.of_class[label] += 1
        self.of_mode[image.mode] += 1
        self.widths = _ends([*self.widths, image.width])
        self.heights = _ends([*self.heights, image.height])

    def __add__(self, other: ImageCounts) -> ImageCounts:
        return ImageCounts(
            self.images + other.images,
            self.samples + other.samples,
            self.encoded + other.encoded,
            self.of_class + other.of_class,
            self.of_mode + other.of_mode,
            _ends([*self.widths, *other.widths]),
            _ends([*self.heights, *other.heights]),
            self.skipped + other.skipped,
        )

    @property
    def classes(self) -> int:
        """Classes are below this."""
        return max(self.of_class, default=-1) + 1

    def as_dict(self, classes: Sequence[str] | None) -> dict[str, int | str]:
        """By name; of classes, how many there are, and the samples of two of them.

        Args:
            classes (Sequence[str] | None): All classes, if they have names.
        """
        known = self.classes if classes is None else len(classes)
        of_class = self.of_class.values()
        return {
            "images": self.images,
            "samples": self.samples,
            "encoded_anew": self.encoded,
            "skipped": len(self.skipped),
            "classes": known,
            "smallest_class": min(of_class) if len(of_class) == known else 0,
            "largest_class": max(of_class),
            "grey": self.of_mode["L"],
            "in_colour": self.of_mode["RGB"],
            "widths": "-".join(map(str, dict.fromkeys(self.widths))),
            "heights": "-".join(map(str, dict.fromkeys(self.heights))),
        }

    @classmethod
    def load(cls, path: Path) -> ImageCounts:
        """Those that :func:`convert_images` wrote."""
        kept = json.loads(path.read_text())
        kept["of_class"] = Counter({int(label): n for label, n in kept["of_class"].items()})
        kept["of_mode"] = Counter(kept["of_mode"])
        return cls(**kept)


def _ends(numbers: Sequence[int]) -> list[int]:
    """The smallest and the largest."""
    return [min(numbers), max(numbers)] if numbers else []


def counts_of_images(out: Path, parts: int) -> ImageCounts:
    """What became of the images of all parts."""
    some = (ImageCounts.load(folder_of(out, i) / COUNTS) for i in range(parts))
    return sum(some, ImageCounts())


@dataclass(frozen=True)
class ImageConversion:
    """What is asked for; the same for all parts.

    Attributes:
        source (Source): Reads images.
        classes (int | None): Labels are below this; None: any.
        encoding (str): Streaming's, ``jpeg`` or ``png``.
        columns (tuple[str, str]): Names for image and label.
        mode (str | None): See :func:`~conversion.images.stored_image`.
        resize (int | None): Likewise.
        quality (int): Likewise.
        shard_bytes (int): Size of a shard, at most.
        compression (str | None): Of shards, as streaming calls it.
        skip_broken (bool): Whether a broken image is left out and told later.
    """

    source: Source
    classes: int | None
    encoding: str
    columns: tuple[str, str]
    mode: str | None
    resize: int | None
    quality: int
    shard_bytes: int
    compression: str | None
    skip_broken: bool


def image_parts(items: Sequence[Item], part_bytes: int) -> list[ImagePart]:
    """Images in order, as many as make a shard of so many bytes, if they are kept as they are."""
    parts: list[list[Item]] = []
    room = 0
    for item in items:
        needed = item.size + _SAMPLE_BYTES
        if not parts or needed > room:
            parts.append([])
            room = part_bytes - _SHARD_BYTES
        parts[-1].append(item)
        room -= needed
    return [tuple(part) for part in parts]


def size_of_images(part: ImagePart) -> int:
    """Bytes of a part, about."""
    return sum(item.size for item in part)


def convert_images(conversion: ImageConversion, part: ImagePart, folder: Path) -> None:
    """Write a part's shards, and the counts of what became of its images; then read them back.

    Args:
        conversion (ImageConversion): What is asked for.
        part (ImagePart): The images.
        folder (Path): Where to; empty, or not there yet.

    Raises:
        click.ClickException: An image is broken or of no class; or what is on the disk is not what
            was written.
    """
    counts, written = ImageCounts(), []
    image_column, label_column = conversion.columns
    with (
        MDSWriter(
            out=str(folder),
            columns={image_column: conversion.encoding, label_column: "int"},
            compression=conversion.compression,
            hashes=["xxh64"],
            size_limit=conversion.shard_bytes,
        ) as writer,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # Pillow's, of metadata that is odd
        for image, label in _images(conversion, part, counts):
            writer.write({image_column: image.data, label_column: label})
            counts.add(image, label)
            written.append((image.width, image.height, label))
    try:
        read = [(*sample[image_column].size, sample[label_column]) for sample in _read_back(folder)]
        if read != written:
            raise DamagedError(f"{len(read)} samples are not the {len(written)} that were written")
    except DamagedError as error:
        raise click.ClickException(
            f"{folder} was written, and cannot be read back ({error}): look at the disk and at the "
            "memory of this machine, and give the same command again"
        ) from error
    (folder / COUNTS).write_text(json.dumps(vars(counts)))


def _images(
    conversion: ImageConversion, part: ImagePart, counts: ImageCounts
) -> Iterator[tuple[Stored, int]]:
    source = conversion.source
    for item in part:
        counts.images += 1
        try:
            image, label = source.read(item.key)
            stored = stored_image(image, conversion.mode, conversion.resize, conversion.quality)
        except Exception as error:  # Pillow raises all sorts
            told = re.sub(r" <_io\.BytesIO object at \w+>", "", str(error))
            fault = " ".join(f"{type(error).__name__}: {told}".split())
            if not conversion.skip_broken:
                raise click.ClickException(
                    f"{source.name(item.key)} is no image that can be read ({fault}): mend or "
                    "remove it, or give --skip-broken"
                ) from error
            counts.skipped.append([source.name(item.key), fault])
            continue
        label = item.label if item.label is not None else label
        if label is None or label < 0 or label >= (conversion.classes or label + 1):
            raise click.ClickException(
                f"{source.name(item.key)} has the label {label}, which is none of "
                f"{conversion.classes or 'the'} classes from 0: leave it out, or its split"
            )
        yield stored, label


def _read_back(folder: Path) -> Iterator[dict[str, Any]]:
    """What is in a part's shards, whose hashes are looked at."""
    for each in json.loads((folder / INDEX).read_text())["shards"]:
        with unpacked(str(folder), reader_from_json(str(folder), "", each)) as shard:
            yield from samples_of(shard)
