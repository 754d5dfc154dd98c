# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What shards are: from their index, a few headers, and the first samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from conversion.job import SETTINGS
from conversion.parts import INDEX
from conversion.stored import (
    TIMEOUT,
    DamagedError,
    faults_of_files,
    samples_of,
    unpacked,
)
from streaming.base.format.mds.reader import MDSReader

from composer_dataagent.streaming.index_file import SPLITS, IndexFile, is_folder, read_index
from composer_dataagent.streaming.remotes import can_read_ranges, open_store
from composer_dataagent.streaming.spans import header_size, offsets_of
from inspection.samples import in_words

# Of so many shards, spread over the data, the sizes of all samples are read.
_HEADERS = 32
_QUANTILES = {"smallest": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "largest": 1.0}


def data_sets_in(source: str) -> list[str]:
    """Folders or URLs of data sets: the one that is named, else those in folders below it.

    Args:
        source (str): As named.

    Raises:
        OSError: There is none, or it cannot be read.
    """
    if is_folder(source):
        if (Path(source) / INDEX).is_file():
            return [source]
        found = sorted(str(index.parent) for index in Path(source).glob(f"*/{INDEX}"))
        if (Path(source) / SETTINGS).is_file():
            raise FileNotFoundError(
                f"{source} is a conversion that is not finished ({len(found)} parts of it are): "
                "give its command again"
            )
        if found:
            return found
        raise FileNotFoundError(
            f"{source} has neither shards ({INDEX}) nor folders with them, and is no run folder"
        )
    if _has_index(source):
        return [source]
    found = [f"{source}/{name}" for name in _folders(source) if _has_index(f"{source}/{name}")]
    if not found:
        read_index(source)  # says why not
    return found


def _has_index(source: str) -> bool:
    try:
        read_index(source)
    except OSError:
        return False
    except ValueError:  # told when it is described
        return True
    return True


def _folders(source: str) -> Sequence[str]:
    if not can_read_ranges(source):
        return SPLITS
    try:
        prefixes = open_store(source, TIMEOUT).list_with_delimiter()["common_prefixes"]
    except Exception:  # of any provider's client
        return SPLITS
    return sorted({str(prefix).strip("/").rpartition("/")[2] for prefix in prefixes})


def describe_data(source: str, samples: int) -> dict[str, Any]:
    """Facts about a data set.

    Args:
        source (str): Folder or URL that has the index.
        samples (int): How many of the first are shown; for them, a shard is downloaded. 0: none.

    Returns:
        dict[str, Any]: As JSON has them.

    Raises:
        OSError: The index cannot be read.
        ValueError: It is none.
    """
    index = read_index(source)
    sizes, first = index.sizes, index.shards[0]
    columns = [_columns(shard) for shard in index.shards]
    raw, stored = int(sizes.raw.sum()), int(sizes.stored.sum())
    faults = faults_of_files(source, index.shards)
    shown, why_none = _first_samples(source, index, samples)
    return {
        "kind": "shards",
        "where": source,
        "samples": int(sizes.num_samples),
        "shards": len(index.shards),
        "format": type(first).__name__.removesuffix("Reader").lower(),
        "columns": columns[0],
        "shards_with_other_columns": sum(each != columns[0] for each in columns),
        "compression": sorted({shard.compression or "none" for shard in index.shards}),
        "hashes": sorted({name for shard in index.shards for name in shard.hashes}),
        "bytes": raw,
        "stored_bytes": stored,
        "mean_sample_bytes": raw / int(sizes.num_samples),
        "samples_of_a_shard": _three(sizes.samples),
        "stored_bytes_of_a_shard": _three(sizes.stored),
        "sample_bytes": _sample_bytes(source, index),
        "ranged_bytes": int(sizes.stored[sizes.ranged].sum()),
        "not_ranged": index.whole,
        "file_faults": faults,
        "about": index.about,
        "first_samples": shown,
        "why_no_samples": why_none,
    }


def _columns(shard: Any) -> dict[str, str]:
    """Name to encoding; a text format's shards have no encodings of ours."""
    if isinstance(shard, MDSReader):
        return dict(zip(shard.column_names, shard.column_encodings, strict=True))
    columns = getattr(shard, "columns", None)
    return dict(columns) if isinstance(columns, Mapping) else {}


def _three(values: Any) -> dict[str, float]:
    return {
        "smallest": int(values.min()),
        "mean": float(values.mean()),
        "largest": int(values.max()),
    }


def _sample_bytes(source: str, index: IndexFile) -> dict[str, Any] | None:
    """How large samples are, by the headers of some shards; None if no ranges can be read."""
    ranged = index.sizes.ranged.tolist()
    readable = [shard for shard, can in zip(index.shards, ranged, strict=True) if can]
    if not readable:
        return None
    some = np.unique(np.linspace(0, len(readable) - 1, _HEADERS).astype(int)).tolist()
    sizes = []
    try:
        store = open_store(source, TIMEOUT)
        for i in some:
            shard = readable[i]
            end = header_size(shard.samples)
            header = bytes(store.get_range(shard.raw_data.basename, start=0, end=end))
            sizes.append(np.diff(offsets_of(header, shard.samples, shard.raw_data.bytes)))
    except Exception:  # of any provider's client, and of what is damaged: told as such elsewhere
        return None
    all_sizes = np.concatenate(sizes)
    found = {name: int(np.quantile(all_sizes, q)) for name, q in _QUANTILES.items()}
    return {**found, "of_samples": len(all_sizes), "of_shards": len(some)}


def _first_samples(
    source: str, index: IndexFile, wanted: int
) -> tuple[list[dict[str, str]], str | None]:
    """The first samples in words, or why there are none."""
    shown: list[dict[str, str]] = []
    try:
        for shard in index.shards:
            if len(shown) >= wanted:
                break
            with unpacked(source, shard) as reader:
                some = islice(samples_of(reader), wanted - len(shown))
                shown += [in_words(sample, index.about) for sample in some]
    except (DamagedError, OSError) as error:
        return shown, str(error)
    return shown, None
