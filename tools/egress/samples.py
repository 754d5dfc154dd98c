# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Samples whose contents follow from their ids, selections of them, and what these must cost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from streaming import MDSWriter

from composer_dataagent.streaming.spans import header_size, offsets_of

_POOL = 1 << 20
# A prime: ids that follow one another get contents that are far apart.
_STRIDE = 7_919


@dataclass(frozen=True, eq=False)
class Shards:
    """Shards that were written.

    Attributes:
        name (str): Of their folder.
        size (int): Bytes of each sample's content.
        counts (NDArray[np.int64]): ``[S]`` samples of each shard.
        content (NDArray[np.int64]): ``[S]`` bytes that the samples of each shard take in it.
        total (int): Bytes of all shards.
        largest (int): Bytes of the largest.
    """

    name: str
    size: int
    counts: NDArray[np.int64]
    content: NDArray[np.int64]
    total: int
    largest: int

    @property
    def num_samples(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    def least(self, ids: NDArray[np.int64]) -> int:
        """Bytes of some samples, and of the headers that say where they are in their shards."""
        ends = np.cumsum(self.counts)
        hits = np.bincount(np.searchsorted(ends, ids, side="right"), minlength=len(ends))
        # All samples are equally large.
        samples = int((hits * (self.content // self.counts)).sum())
        return samples + sum(header_size(count) for count in self.counts[hits > 0].tolist())


@cache
def _pool() -> bytes:
    return np.random.default_rng(0).bytes(2 * _POOL)


def content_of(sample_id: int, size: int) -> bytes:
    """What is stored for a sample: nothing that could be compressed, and no other sample's."""
    at = sample_id * _STRIDE % _POOL
    return sample_id.to_bytes(8, "big") + _pool()[at : at + size - 8]


def write_shards(folder: Path, size: int, total: int, limit: int) -> Shards:
    """Write about ``total`` bytes as MDS shards of at most ``limit`` bytes.

    Args:
        folder (Path): Where to.
        size (int): Bytes of a sample, at least 8 and at most 1 MiB.
        total (int): Bytes of all samples.
        limit (int): Bytes of a shard.
    """
    columns = {"id": "int", "x": "bytes"}
    with MDSWriter(out=str(folder), columns=columns, size_limit=limit) as writer:
        for i in range(max(total // size, 1)):
            writer.write({"id": i, "x": content_of(i, size)})
    counts, content, sizes = [], [], []
    for shard in json.loads((folder / "index.json").read_text())["shards"]:
        samples, raw = shard["samples"], shard["raw_data"]
        with (folder / raw["basename"]).open("rb") as file:
            offsets = offsets_of(file.read(header_size(samples)), samples, raw["bytes"])
        counts.append(samples)
        content.append(int(offsets[-1] - offsets[0]))
        sizes.append(raw["bytes"])
    return Shards(folder.name, size, np.array(counts), np.array(content), sum(sizes), max(sizes))


def selected(shards: Shards, ratio: float, epoch: int, whole_shards: bool) -> NDArray[np.int64]:
    """A new random selection for each epoch, the same in every process.

    Args:
        shards (Shards): What to select from.
        ratio (float): Share of the samples.
        epoch (int): Another epoch, another selection.
        whole_shards (bool): Take the shards whose samples have the largest random scores in the
            mean, and of the last one as many of the best as are missing; else samples anywhere.

    Returns:
        NDArray[np.int64]: Sorted ids.
    """
    count = max(round(ratio * shards.num_samples), 1)
    scores = np.random.default_rng([epoch, 1]).random(shards.num_samples)
    if whole_shards:
        shard_of = np.repeat(np.arange(len(shards.counts)), shards.counts)
        means = np.bincount(shard_of, scores) / shards.counts
        order = np.lexsort([-scores, shard_of, -means[shard_of]])
    else:
        order = np.argsort(-scores)
    return np.sort(order[:count])
