# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Have a data set's shards fetched by ranges, where that is possible."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from filelock import FileLock
from streaming import Stream

from composer_dataagent.streaming.costs import Costs
from composer_dataagent.streaming.metered import overridden
from composer_dataagent.streaming.part_folders import (
    folder_name,
    is_in_the_way,
    remove_stale,
    remove_unfinished,
)
from composer_dataagent.streaming.ranged import OpenRangedMDSReader, RangedMDSReader, Ranges
from composer_dataagent.streaming.shards import can_be_fetched, why_whole

# The share of the cache that shards may fill while they are on their way.
_UNDER_WAY = 0.5

log = logging.getLogger(__name__)


def read_by_ranges(dataset: Any, costs: Costs) -> None:
    """Have the shards of an attached dataset fetched by ranges where that is possible, in place.

    Args:
        dataset (Any): A selective StreamingDataset.
        costs (Costs): By which it is decided how a shard is fetched.

    Raises:
        ValueError: The system is not Linux.
    """
    try:
        folder_name()
    except OSError as error:
        raise ValueError(
            f"fetch='samples' cannot be used here, where it is not known when the system was "
            f"started ({error}): remove it"
        ) from error
    ranges, reasons = _ranges_of(dataset)
    ranges.costs, ranges.is_whole = costs, False
    for reason, count in reasons.items():
        log.warning(
            "fetch='samples': %d of %d shards are fetched whole, since they are %s",
            count,
            len(dataset.shards),
            reason,
        )


def read_whole(dataset: Any) -> None:
    """Have the shards of an attached dataset fetched whole, in place.

    Parts of shards that are there, by an earlier run perhaps, are used as far as they go, and are
    counted in the cache.

    Args:
        dataset (Any): A selective StreamingDataset.
    """
    if dataset.ranges is not None or _has_parts(dataset):
        ranges, _ = _ranges_of(dataset)
        ranges.is_whole = True


def tidy_up(dataset: Any) -> None:
    """Remove parts of shards that nobody will use any more; done by one process of a node."""
    with contextlib.suppress(OSError):  # where the system does not tell of its start are no parts
        for stream in dataset.streams:
            remove_stale(Path(stream.local, stream.split))


def _has_parts(dataset: Any) -> bool:
    try:
        name = folder_name()
    except OSError:
        return False
    return any(Path(each.local, each.split, name).is_dir() for each in dataset.streams)


def _ranges_of(dataset: Any) -> tuple[Ranges, Counter[str]]:
    """Have shards there in part; gives why some of them, newly looked at, cannot be."""
    reasons: Counter[str] = Counter()
    if dataset.ranges is not None:
        return dataset.ranges, reasons
    ranges = Ranges(Costs(), dataset.needs, dataset.tally)
    if dataset.cache_limit:
        largest = max(shard.get_max_size() for shard in dataset.shards)
        ranges.room = _UNDER_WAY * dataset.cache_limit / largest
    reader = OpenRangedMDSReader if dataset.cache_limit is None else RangedMDSReader
    for shard_id, shard in enumerate(dataset.shards):
        stream = dataset.streams[int(dataset.stream_per_shard[shard_id])]
        reason = _why_whole(stream, shard)
        if reason is not None:
            reasons[reason] += 1
            continue
        shard.ranges, shard.shard_id, shard.stream = ranges, shard_id, stream
        shard.__class__ = reader
    dataset.ranges = ranges
    if dataset._unique_rank_world.is_local_leader:
        _adopt(dataset)
    return ranges, reasons


def _adopt(dataset: Any) -> None:
    """Count what an earlier run of this machine left, and remove what cannot be used."""
    ranged = [shard for shard in dataset.shards if isinstance(shard, RangedMDSReader)]
    parts = {str(Path(shard.partial_path)) for shard in ranged}
    for folder in {Path(shard.dirname, shard.split) for shard in ranged}:
        for left in folder.glob(f"{folder_name()}/**/*"):
            if str(left) not in parts and not left.is_dir():
                remove_unfinished(left)
    held = dataset.tally.held()
    with FileLock(dataset._cache_filelock_path):
        for shard in ranged:
            held[shard.shard_id] = shard.adopt()
            dataset.cache_usage += int(held[shard.shard_id])
        while dataset.cache_limit and dataset.cache_usage > dataset.cache_limit:
            dataset._evict_coldest_shard()


def _why_whole(stream: Stream, shard: Any) -> str | None:
    """What keeps a shard from being read by ranges, if anything does: what it is."""
    if not can_be_fetched(stream):
        return "local already"
    for name in ("prepare_shard", "_prepare_shard_part", "_download_file"):
        if name in overridden(type(stream)):
            return f"of {type(stream).__name__}, which overrides Stream.{name}"
    reason = why_whole(shard, stream.remote, stream.validate_hash)
    if reason is None and is_in_the_way(shard.raw_data.basename):
        return "named as the folder that parts of shards are in"
    return reason
