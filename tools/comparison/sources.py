# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Clean, real data that installs from package registries."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from comparison.language import instructions, library, topics
from comparison.passages import CHARACTERS, PACKAGES, draw_passages
from comparison.splits import Split, labelled
from composer_dataagent.recipes.digits import load_splits

# Debian's package: apt-get install dataset-fashion-mnist, or, without being root,
# apt-get download dataset-fashion-mnist && dpkg-deb -x dataset-fashion-mnist*.deb somewhere
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
# A fixed part: small enough for hundreds of runs on a CPU, and hard enough to have differences.
FASHION_SAMPLES = 8_000
# Of each of eight packages.
TEXT_TRAIN, TEXT_EVAL = 1_000, 250


@dataclass(frozen=True)
class Source:
    """Clean data in two parts.

    Attributes:
        train (Split): To train on.
        eval (Split): To evaluate on; never changed.
    """

    train: Split
    eval: Split


def digits(folder: Path) -> Source:
    """scikit-learn's digits: 1,437 images of 8x8 to train on, 360 to evaluate on."""
    del folder
    splits = load_splits()
    return Source(labelled(*splits["train"]), labelled(*splits["eval"]))


@functools.cache  # several recipes train on it
def fashion(folder: Path, samples: int = FASHION_SAMPLES) -> Source:
    """Fashion-MNIST: a fixed part of its images of 28x28 to train on, 10,000 to evaluate on."""
    try:
        (images, labels), (eval_images, eval_labels) = (
            (
                _idx(folder, f"{part}-images-idx3-ubyte.gz"),
                _idx(folder, f"{part}-labels-idx1-ubyte.gz"),
            )
            for part in ("train", "t10k")
        )
    except FileNotFoundError as error:
        raise click.ClickException(
            f"{error.filename} is missing. Fashion-MNIST is Debian's package "
            "dataset-fashion-mnist: install it, or unpack it anywhere (apt-get download, dpkg-deb "
            "-x) and give --fashion the folder of its .gz files"
        ) from error
    rows = np.random.default_rng(0).permutation(len(labels))[:samples]
    return Source(
        labelled(images[rows], labels[rows].astype(np.int64)),
        labelled(eval_images, eval_labels.astype(np.int64)),
    )


def text(folder: Path) -> Source:
    """Documentation of eight packages: 8,000 passages to train on, 2,000 to evaluate on.

    The class is the package that a passage is from. Which passages there are depends on the
    versions that are installed.
    """
    del folder
    train, evaluate = (
        labelled(
            np.array([passage for passage, _ in split], f"U{CHARACTERS}"),
            np.array([label for _, label in split], np.int64),
        )
        for split in draw_passages(PACKAGES, TEXT_TRAIN, TEXT_EVAL)
    )
    return Source(train, evaluate)


def _idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """An array in the IDX format: two zero bytes, type, rank, big-endian shape, data."""
    with gzip.open(folder / name) as file:
        content = file.read()
    rank = content[3]
    shape = np.frombuffer(content, ">u4", rank, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


# By the name of the recipe in yamls/ that trains on it, or that RECIPES tells.
SOURCES: dict[str, Callable[[Path], Source]] = {
    "digits": digits,
    "fashion": fashion,
    "fashion_resnet8": fashion,
    "fashion_vit": fashion,
    "text": text,
    "causal_lm": lambda folder: Source(*topics()),
    "instructions": lambda folder: Source(*instructions()),
    "library": lambda folder: Source(*library()),
    "fashion_all": lambda folder: fashion(folder, 60_000),
}
RECIPES = {"instructions": "causal_lm", "library": "causal_lm", "fashion_all": "fashion"}
