# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every sample of a data set read, wherever it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image
from tqdm import tqdm

from composer_dataagent.streaming.index_file import read_index
from conversion.stored import samples_of, unpacked
from conversion.workers import in_processes


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes:
        samples (int): That the index tells of.
        read (int): That could be read.
        faults (list[str]): What is wrong, the first thing of each shard.
    """

    samples: int
    read: int
    faults: list[str]


def verify(source: str, split: str | None, jobs: int) -> Verified:
    """Read all shards: sizes, hashes, each sample, and of images each pixel and the class.

    Args:
        source (str): Folder or URL of the data set.
        split (str | None): Folder within it.
        jobs (int): Shards at a time.

    Raises:
        OSError: The index cannot be read.
        ValueError: It is none.
    """
    index = read_index(source, split)
    where = index.where.rpartition("/")[0]
    samples = int(index.sizes.num_samples)
    images = index.about.get("images")
    label = None  # others write what they like
    if isinstance(images, dict) and {"label", "classes"} <= {*images}:
        label = str(images["label"]), int(images["classes"])
    read, faults = 0, {}
    with tqdm(total=samples, desc=where, unit="sample") as progress:
        shards = dict(enumerate(index.shards))
        for number, (done, fault) in in_processes(partial(_read, where, label), shards, jobs):
            read += done
            if fault is not None:
                faults[number] = fault
            progress.update(index.shards[number].samples)
    return Verified(samples, read, [faults[number] for number in sorted(faults)])


def _read(
    source: str, label: tuple[str, int] | None, shard: Any, number: int
) -> tuple[int, str | None]:
    """How many samples of a shard could be read, and what is wrong with the next."""
    del number
    read = 0
    try:
        with unpacked(source, shard) as reader:
            for sample in samples_of(reader):
                _look(sample, label)
                read += 1
    except Exception as error:  # whatever decoders and clients of object stores raise
        name = shard.file_pairs[0][0].basename
        return read, f"{name}, after {read} of {shard.samples} samples: {error}"
    return read, None


def _look(sample: dict[str, Any], label: tuple[str, int] | None) -> None:
    for value in sample.values():
        if isinstance(value, Image.Image):
            value.load()
    if label is not None:
        column, classes = label
        if not 0 <= sample[column] < classes:
            raise ValueError(f"{column}={sample[column]} is none of {classes} classes")
