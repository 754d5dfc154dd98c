# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a selection makes a run read of each shard, told by the index alone, in plain NumPy.

The index says how many samples and bytes a shard has, not where its samples begin: all samples of a
shard are taken to have the same size. Where they do, the numbers are exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from composer_dataagent.streaming.costs import REQUESTS_OF_SHARD, Costs
from composer_dataagent.streaming.spans import header_size

# Samples that are looked at together: what is made of them stays in the processor's cache.
_AT_ONCE = 1 << 17
_MOST_SKIPPED = 1 << 40  # more samples than a shard can have


@dataclass(frozen=True, eq=False)
class ShardSizes:
    """What an index says of its shards.

    Attributes:
        samples (NDArray[np.int64]): ``[S]`` samples of each, in the order of ids.
        raw (NDArray[np.int64]): ``[S]`` bytes as it is read, decompressed.
        stored (NDArray[np.int64]): ``[S]`` bytes as it is stored, and fetched whole.
        ranged (NDArray[np.bool_]): ``[S]`` whether ranges of it can be read: uncompressed MDS.
        files (NDArray[np.int64]): ``[S]`` how many files it is made of.
    """

    samples: NDArray[np.int64]
    raw: NDArray[np.int64]
    stored: NDArray[np.int64]
    ranged: NDArray[np.bool_]
    files: NDArray[np.int64]

    @property
    def num_samples(self) -> int:
        """Of all shards."""
        return int(self.samples.sum())

    @property
    def headers(self) -> NDArray[np.int64]:
        """``[S]`` bytes that tell where samples begin."""
        return header_size(self.samples)

    @property
    def bodies(self) -> NDArray[np.int64]:
        """``[S]`` bytes of all samples of a shard."""
        return np.maximum(self.raw - self.headers, 0)

    @property
    def starts(self) -> NDArray[np.int64]:
        """``[S + 1]`` the first id of each shard, and the number of all samples."""
        return np.concatenate([[0], np.cumsum(self.samples)])

    def some(self, which: NDArray[np.int64]) -> ShardSizes:
        """Only some of the shards, as if there were no others."""
        return ShardSizes(
            self.samples[which],
            self.raw[which],
            self.stored[which],
            self.ranged[which],
            self.files[which],
        )


@dataclass(frozen=True, eq=False)
class Reads:
    """What is read of each shard for a selection.

    Attributes:
        selected (NDArray[np.int64]): ``[S]`` selected samples.
        missing (NDArray[np.int64]): ``[S]`` those of them that are not held.
        ranges (NDArray[np.int64]): ``[S]`` ranges that hold the missing samples, without one for
            the header; 0 where there can be none.
        ranged_requests (NDArray[np.int64]): ``[S]`` the ranges, and one for a header that is not
            held.
        ranged_bytes (NDArray[np.int64]): ``[S]`` what those requests bring.
        whole (NDArray[np.bool_]): ``[S]`` whether the shard is fetched whole although only samples
            are asked for, since that is cheaper or cannot be otherwise.
        whole_requests (NDArray[np.int64]): ``[S]`` requests for the whole shard, if any is missing.
        whole_bytes (NDArray[np.int64]): ``[S]`` what those bring.
    """

    selected: NDArray[np.int64]
    missing: NDArray[np.int64]
    ranges: NDArray[np.int64]
    ranged_requests: NDArray[np.int64]
    ranged_bytes: NDArray[np.int64]
    whole: NDArray[np.bool_]
    whole_requests: NDArray[np.int64]
    whole_bytes: NDArray[np.int64]

    @property
    def needed(self) -> NDArray[np.bool_]:
        """``[S]`` whether any sample of the shard is selected."""
        return self.selected > 0

    def bytes_by_shard(self, fetch: str) -> NDArray[np.int64]:
        """``[S]`` bytes that are fetched.

        Args:
            fetch (str): ``shards``: whole, as streaming does. ``samples``: by ranges, or whole
                where that is cheaper.
        """
        return self._of(fetch, self.ranged_bytes, self.whole_bytes)

    def requests_by_shard(self, fetch: str) -> NDArray[np.int64]:
        """``[S]`` reading requests. See :meth:`bytes_by_shard`."""
        return self._of(fetch, self.ranged_requests, self.whole_requests)

    def _of(self, fetch: str, ranged: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray:
        if fetch not in ("shards", "samples"):
            raise ValueError(f"fetch={fetch!r} is not accepted; it must be 'shards' or 'samples'")
        return whole if fetch == "shards" else np.where(self.whole, whole, ranged)


def map_reads(
    selection: NDArray,
    sizes: ShardSizes,
    costs: Costs | None = None,
    held: NDArray[np.uint8] | None = None,
) -> Reads:
    """Map a selection to what is read of each shard.

    Beside the selection it takes a few megabytes, and some numbers for each shard.

    Args:
        selection (NDArray): ``[K]`` sorted ids without repetition, of any signed integer type, or
            ``[ceil(N / 8)]`` uint8, a bitmap as :func:`numpy.packbits` makes it.
        sizes (ShardSizes): Of the shards, with ``N`` samples in all.
        costs (Costs | None): Decide which samples are read by one request, and which shards whole.
            Default: ``Costs()``.
        held (NDArray[np.uint8] | None): ``[ceil(N / 8)]`` bitmap of the samples that are there
            already, see :func:`hold`. The header of a shard with such a sample is there, too.
            Default: none.

    Returns:
        Reads: By shard.

    Raises:
        ValueError: The ids are not within the data set, or a bitmap has another size.
    """
    costs = Costs() if costs is None else costs
    selected, missing, ranges, covered, begun = np.zeros((5, len(sizes.samples)), np.int64)
    # With at most so many samples between two, these are read at once.
    skipped = _samples_in(costs.gap, sizes)
    for block in _blocks(selection, sizes, held):
        part = slice(block.first, block.last)
        bounds = np.searchsorted(block.ids, block.ends)
        counts = np.diff(bounds, prepend=0)
        selected[part], missing[part], begun[part] = block.selected, counts, block.begun
        if len(block.ids):
            first, last = _runs(block.ids, bounds, counts, skipped[part])
            at = np.searchsorted(first, block.ends)
            ranges[part] = np.diff(at, prepend=0)
            lengths = np.concatenate([[0], np.cumsum(last - first + 1)])
            covered[part] = np.diff(lengths[at], prepend=0)
    return _priced(sizes, costs, selected, missing, ranges, covered, begun > 0)


def hold(
    held: NDArray[np.uint8], selection: NDArray, sizes: ShardSizes, whole: NDArray[np.bool_]
) -> None:
    """Have a selection held from now on, in place.

    What lies between two samples and came with them is not kept.

    Args:
        held (NDArray[np.uint8]): ``[ceil(N / 8)]`` bitmap; is changed.
        selection (NDArray): See :func:`map_reads`.
        sizes (ShardSizes): Of the shards.
        whole (NDArray[np.bool_]): ``[S]`` shards of which all samples are held now.
    """
    for block in _blocks(selection, sizes, None):
        mask = np.zeros(int(block.ends[-1]), bool)
        mask[block.ids] = True
        mask |= np.repeat(whole[block.first : block.last], np.diff(block.ends, prepend=0))
        _put(held, block.start, mask, also=True)


def forget(
    held: NDArray[np.uint8], sizes: ShardSizes, shards: NDArray[np.int64] | list[int]
) -> None:
    """Hold no sample of some shards any more, in place.

    Args:
        held (NDArray[np.uint8]): ``[ceil(N / 8)]`` bitmap; is changed.
        sizes (ShardSizes): Of the shards.
        shards (NDArray[np.int64] | list[int]): Numbers of shards.
    """
    starts = sizes.starts
    for shard in shards:
        _put(held, int(starts[shard]), np.zeros(int(sizes.samples[shard]), bool), also=False)


def droppable(following: NDArray, sizes: ShardSizes) -> NDArray[np.bool_]:
    """Which shards the next epoch does not need.

    Args:
        following (NDArray): Its selection, see :func:`map_reads`.
        sizes (ShardSizes): Of the shards.

    Returns:
        NDArray[np.bool_]: ``[S]``.
    """
    used = np.zeros(len(sizes.samples), bool)
    for block in _blocks(following, sizes, None):
        used[block.first : block.last] = block.selected > 0
    return ~used


@dataclass(frozen=True, eq=False)
class _Block:
    """Some shards, and which of their samples are to be read, counted from the first."""

    first: int  # shard
    last: int  # shard after the last one
    start: int  # sample
    ends: NDArray[np.int64]  # of each shard
    ids: NDArray[np.int64]
    selected: NDArray[np.int64]  # of each shard
    begun: NDArray[np.int64]  # of each shard, how many samples are held


def _blocks(
    selection: NDArray, sizes: ShardSizes, held: NDArray[np.uint8] | None
) -> Iterator[_Block]:
    starts = sizes.starts
    is_bitmap = selection.dtype == np.uint8
    count = int(starts[-1])
    for name, bits in (("selection", selection if is_bitmap else None), ("held", held)):
        if bits is not None and bits.shape != ((count + 7) // 8,):
            raise ValueError(
                f"{name} has shape {bits.shape}, but a bitmap of {count} samples has "
                f"{(count + 7) // 8} bytes"
            )
    if not is_bitmap and len(selection) and not 0 <= selection[0] <= selection[-1] < count:
        raise ValueError(
            f"selection has ids from {selection[0]} to {selection[-1]}, but the data set has "
            f"{count} samples"
        )
    first = 0
    while first < len(sizes.samples):
        last = int(np.searchsorted(starts, starts[first] + _AT_ONCE, side="right")) - 1
        last = min(max(last, first + 1), len(sizes.samples))
        start, stop = int(starts[first]), int(starts[last])
        ends = starts[first + 1 : last + 1] - start
        none = np.zeros(last - first, np.int64)
        if is_bitmap:
            mask = _unpacked(selection, start, stop)
            ids = np.flatnonzero(mask)
        else:
            begin, end = (_before(selection, at) for at in (start, stop))
            ids = selection[begin:end].astype(np.int64) - start
        selected, begun = np.diff(np.searchsorted(ids, ends), prepend=0), none
        if held is not None:
            there = _unpacked(held, start, stop)
            begun = np.diff(np.concatenate([[0], np.cumsum(there)])[ends], prepend=0)
            ids = ids[~there[ids]]
        yield _Block(first, last, start, ends, ids, selected, begun)
        first = last


def _before(ids: NDArray, stop: int) -> int:
    """How many ids are less. Of another type than theirs, it would have all of them copied."""
    if stop > np.iinfo(ids.dtype).max:
        return len(ids)
    return int(np.searchsorted(ids, ids.dtype.type(stop)))


def _unpacked(bits: NDArray[np.uint8], start: int, stop: int) -> NDArray[np.bool_]:
    """A stretch of a bitmap, one byte for each sample."""
    begin = start // 8
    mask = np.unpackbits(bits[begin : (stop + 7) // 8]).view(bool)
    return mask[start - 8 * begin : stop - 8 * begin]


def _put(bits: NDArray[np.uint8], start: int, mask: NDArray[np.bool_], also: bool) -> None:
    """Write a stretch of a bitmap, in addition to or in place of what is there."""
    begin, end = start // 8, (start + len(mask) + 7) // 8
    there = np.unpackbits(bits[begin:end]).view(bool)
    part = there[start - 8 * begin :][: len(mask)]
    part[:] = part | mask if also else mask
    bits[begin:end] = np.packbits(there)


def _samples_in(gap: int, sizes: ShardSizes) -> NDArray[np.int64]:
    """``[S]`` how many samples, at most, a gap has room for."""
    # Where the product would overflow, there is room for every sample.
    most = int(sizes.samples.max(initial=1))
    if gap > (1 << 62) // most:
        return np.full(len(sizes.samples), _MOST_SKIPPED)
    bodies = sizes.bodies
    return np.where(bodies > 0, gap * sizes.samples // np.maximum(bodies, 1), _MOST_SKIPPED)


def _runs(
    ids: NDArray[np.int64],
    bounds: NDArray[np.int64],
    counts: NDArray[np.int64],
    skipped: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last id of each range, none of them over the end of a shard."""
    begins = np.empty(len(ids), bool)
    begins[0] = True
    allowed = np.repeat(skipped, counts)
    np.greater(ids[1:] - ids[:-1] - 1, allowed[1:], out=begins[1:])
    begins[bounds[:-1][bounds[:-1] < len(ids)]] = True
    at = np.flatnonzero(begins)
    return ids[at], ids[np.append(at[1:], len(ids)) - 1]


def _priced(
    sizes: ShardSizes,
    costs: Costs,
    selected: NDArray[np.int64],
    missing: NDArray[np.int64],
    ranges: NDArray[np.int64],
    covered: NDArray[np.int64],
    begun: NDArray[np.bool_],
) -> Reads:
    reads = missing > 0
    by_ranges = reads & sizes.ranged
    header = by_ranges & ~begun
    # A shard has less than 2^32 bytes (its offsets are uint32), and so less than 2^30 samples.
    size = covered * sizes.bodies // np.maximum(sizes.samples, 1)
    ranged_bytes = np.where(by_ranges, size + header * sizes.headers, 0)
    ranges = np.where(by_ranges, ranges, 0)
    requests = ranges + header
    cheaper = costs.whole_is_cheaper(requests, ranged_bytes, sizes.raw)
    return Reads(
        selected=selected,
        missing=missing,
        ranges=ranges,
        ranged_requests=requests,
        ranged_bytes=ranged_bytes,
        whole=reads & (cheaper | ~sizes.ranged),
        whole_requests=np.where(reads, REQUESTS_OF_SHARD * sizes.files, 0),
        whole_bytes=np.where(reads, sizes.stored, 0),
    )
