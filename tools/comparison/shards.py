# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A condition of a source as MDS shards, and beside them which labels are wrong."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from streaming import MDSWriter

from comparison.conditions import CONDITIONS, Condition
from comparison.sources import Source
from comparison.splits import Split

# Dozens of shards, so that selections touch some and not others.
_SHARD_BYTES = 1 << 17
_WRONG = "wrong.npy"


def is_prepared(folder: Path, condition: str, seed: int) -> bool:
    """Whether :func:`prepare` has nothing to do."""
    return (folder / "eval").exists() and train_folder(folder, condition, seed).exists()


def prepare(source: Source, folder: Path, condition: str, seed: int) -> Path:
    """Write a condition, unless it is there.

    Noise, tails and duplicates are drawn anew for each seed; all selectors of a seed train on the
    same.

    Args:
        source (Source): Clean data.
        folder (Path): Gets ``eval`` and a folder for each condition and seed.
        condition (str): A name in ``CONDITIONS``.
        seed (int): At least 0.

    Returns:
        Path: The folder of the shards to train on.
    """
    _write(folder / "eval", source.eval, enumerate(source.eval.labels))
    train = train_folder(folder, condition, seed)
    data = condition_of(source, condition, seed)
    _write(train, source.train, zip(data.rows, data.labels, strict=True), data.wrong)
    return train


def condition_of(source: Source, condition: str, seed: int) -> Condition:
    """What :func:`prepare` writes."""
    rng = np.random.default_rng([zlib.crc32(condition.encode()), seed])
    return CONDITIONS[condition](source.train.labels, rng)


def wrong_labels(train: Path) -> NDArray[np.bool_]:
    """Which samples ``[N]`` of a prepared folder have a wrong label."""
    return np.load(train / _WRONG)


def train_folder(folder: Path, condition: str, seed: int) -> Path:
    """Where a condition of a source goes."""
    return folder / f"{condition}-seed{seed}"


def _write(
    folder: Path,
    split: Split,
    samples: Iterable[tuple[int, int]],
    wrong: NDArray[np.bool_] | None = None,
) -> None:
    if folder.exists():
        return
    beside = folder.with_suffix(".part")
    shutil.rmtree(beside, ignore_errors=True)  # left by a kill
    with MDSWriter(out=str(beside), columns=split.columns, size_limit=_SHARD_BYTES) as writer:
        for row, label in samples:
            writer.write(split.sample(int(row), int(label)))
    if wrong is not None:
        np.save(beside / _WRONG, wrong)
    beside.rename(folder)
