# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's bundled digits as MDS shards: real images that need no download."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from streaming import MDSWriter
from tqdm import tqdm

from composer_dataagent.recipes.errors import RecipeError

COLUMNS = {"image": "png", "label": "int"}
# About 50 samples a shard: a small data set that still has many shards.
SHARD_BYTES = 1 << 13


def prepare_digits(folder: str | Path) -> Path:
    """Write the data set, unless it is there: 1,437 samples to train on, 360 to evaluate on.

    The split is stratified and fixed. A split is complete or absent, also after a kill.

    Args:
        folder (str | Path): Gets the sub-folders ``train`` and ``eval``.

    Returns:
        Path: The folder.

    Raises:
        RecipeError: scikit-learn is not installed, or the folder cannot be written.
    """
    folder = Path(folder)
    try:
        _write_missing(folder)
    except OSError as error:
        raise RecipeError(f"{folder} cannot be written: {error}") from error
    return folder


def load_splits() -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """The images uint8 ``[N, 8, 8]`` and labels ``[N]`` of ``train`` and ``eval``.

    Raises:
        RecipeError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise RecipeError(
            "The digits come with scikit-learn: pip install 'composer-dataagent[demo]'"
        ) from None
    bunch: Any = load_digits(return_X_y=True)
    images, labels = bunch
    pixels = (images.reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    train, evaluate = train_test_split(
        np.arange(len(labels)), test_size=360, stratify=labels, random_state=0
    )
    return {
        split: (pixels[rows], labels[rows])
        for split, rows in (("train", train), ("eval", evaluate))
    }


def _write_missing(folder: Path) -> None:
    missing = [split for split in ("train", "eval") if not (folder / split).exists()]
    if not missing:
        return
    splits = load_splits()
    for split in missing:
        images, labels = splits[split]
        beside = folder / f"{split}.{os.getpid()}.part"
        with MDSWriter(out=str(beside), columns=COLUMNS, size_limit=SHARD_BYTES) as writer:
            for at in tqdm(range(len(labels)), desc=f"{folder / split}", unit="image"):
                writer.write({"image": Image.fromarray(images[at]), "label": int(labels[at])})
        try:
            beside.rename(folder / split)
        except OSError:  # another process was faster
            shutil.rmtree(beside)
