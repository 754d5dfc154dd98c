# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Torchvision's data sets of images with a class each, by name."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import xxhash
from PIL import Image
from torchvision import datasets

from conversion.listing import Images, Item, Listing, listing_of_files

# Splits of those that have others than train and test.
_SPLITS = {
    "Country211": ("train", "valid", "test"),
    "DTD": ("train", "val", "test"),
    "FGVCAircraft": ("train", "val", "test"),
    "Flowers102": ("train", "val", "test"),
    "ImageNet": ("train", "val"),
    "Imagenette": ("train", "val"),
    "OxfordIIITPet": ("trainval", "test"),
    "PCAM": ("train", "val", "test"),
    "Places365": ("train-standard", "val"),
    "RenderedSST2": ("train", "val", "test"),
}
# Of so many images, sizes are estimated.
_SOME = 32


@dataclass(frozen=True)
class TorchvisionSet:
    """A data set of torchvision's.

    Attributes:
        kind (str): Its class.
        arguments (tuple[tuple[str, Any], ...]): Of this.
    """

    kind: str
    arguments: tuple[tuple[str, Any], ...]

    def read(self, key: int) -> tuple[bytes | Image.Image, int]:
        """The file, where torchvision reads one; else the image that it makes."""
        image, label = _opened(self)[key]
        return (image.read_bytes() if isinstance(image, Path) else image), int(label)

    def name(self, key: int) -> str:
        """Its number in the data set."""
        return f"{self}, image {key}"

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(f'{k}={v!r}' for k, v in self.arguments)})"


@cache
def _opened(source: TorchvisionSet) -> Any:
    """The data set, opened once a process."""
    cls = getattr(datasets, source.kind)
    arguments = dict(source.arguments)
    if "loader" in inspect.signature(cls).parameters:
        arguments["loader"] = Path  # the file, in place of its pixels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how torchvision reads its files
        return cls(**arguments)


def of_torchvision(kind: str, root: Path, wanted: Sequence[str], download: bool) -> Images:
    """A data set by the name of its class, ``CIFAR10`` for example.

    Args:
        kind (str): The name; upper case does not matter.
        root (Path): Where torchvision keeps it.
        wanted (Sequence[str]): Names of splits. Default: all with labels.
        download (bool): Whether torchvision may download what is not there.

    Raises:
        click.ClickException: There is no such data set or split, or it is not on disk.
    """
    kinds = {name.lower(): name for name in datasets.__all__ if _takes_root(name)}
    if kind.lower() not in kinds:
        raise click.UsageError(
            f"{kind!r} is no data set of torchvision's: {sorted(kinds.values())}"
        )
    kind = kinds[kind.lower()]
    takes = inspect.signature(getattr(datasets, kind)).parameters
    splits: tuple[str | None, ...] = tuple(wanted)
    if "split" not in takes and "train" not in takes:
        if wanted:
            raise click.UsageError(f"{kind} has no splits: leave --split out")
        splits = (None,)
    elif not wanted:
        splits = _SPLITS.get(kind, ("train", "test"))
    listings: dict[str | None, Listing] = {}
    classes = None
    for split in splits:
        arguments: dict[str, Any] = {"root": str(root)}
        if "train" in takes and "split" not in takes:
            if split not in ("train", "test"):
                raise click.UsageError(f"{kind} has the splits train and test, no {split!r}")
            arguments["train"] = split == "train"
        elif split is not None:
            arguments["split"] = split
        if "download" in takes:  # said, for it is the default of some
            if download:
                _open(TorchvisionSet(kind, (*arguments.items(), ("download", True))), download)
            arguments["download"] = False
        source = TorchvisionSet(kind, tuple(arguments.items()))
        found = _open(source, download)
        listings[split] = _listing(source, found)
        classes = _names(getattr(found, "classes", None)) or classes
    return Images(listings, classes)


def _takes_root(name: str) -> bool:
    cls = getattr(datasets, name)
    generic = ("VisionDataset", "DatasetFolder", "ImageFolder", "FakeData")
    return isinstance(cls, type) and name not in generic


def _open(source: TorchvisionSet, download: bool) -> Any:
    try:
        return _opened(source)
    except Exception as error:  # of each data set another
        advice = "" if download else ": name the folder that has it with --root, or give --download"
        raise click.ClickException(
            f"{source} cannot be opened ({type(error).__name__}: {str(error)[:300]}){advice}"
        ) from error


def _listing(source: TorchvisionSet, found: Any) -> Listing:
    if isinstance(found, datasets.DatasetFolder):  # ImageNet: what files there are is known
        return listing_of_files(Path(), found.samples, missing_ok=False)
    count = len(found)
    if not count:
        raise click.ClickException(f"{source} has no images")
    some = np.unique(np.linspace(0, count - 1, _SOME).astype(int)).tolist()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how torchvision makes images
            read = [source.read(i) for i in some]
    except (TypeError, ValueError) as error:
        raise click.ClickException(
            f"{source} does not give an image and its class ({error}): it cannot be converted"
        ) from error
    digest = xxhash.xxh64(f"{source} {count} {[label for _, label in read]}")
    contents = [each if isinstance(each, bytes) else np.asarray(each).tobytes() for each, _ in read]
    for content in contents:  # arrays of another data set may well be of the same size
        digest.update(content)
    size = int(np.mean([*map(len, contents)]))
    return Listing(
        source,
        [Item(i, None, size) for i in range(count)],
        digest.hexdigest(),
        "jpeg" if isinstance(read[0][0], bytes) else "png",
    )


def _names(classes: Any) -> list[str] | None:
    """Of ImageNet's classes, which have several names each, the first."""
    if classes is None:
        return None
    return [each if isinstance(each, str) else str(next(iter(each))) for each in classes]
