# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Images in folders, one for each class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click
from torchvision.datasets.folder import IMG_EXTENSIONS

from composer_dataagent.streaming.index_file import SPLITS
from conversion.listing import Images, Listing, listing_of_files


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
