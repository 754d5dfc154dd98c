# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What an index says of its shards is checked before any of them is touched: anyone can write one.

Streaming joins the names in it to the cache folder as they are, and so would write, read and delete
files anywhere.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

from streaming.base.compression import is_compression
from streaming.base.format import FileInfo, get_index_basename
from streaming.base.format.mds.encodings import _get_coder


def check_index(dataset: Any) -> None:
    """Refuse shards whose description makes no sense.

    Args:
        dataset (Any): A StreamingDataset.

    Raises:
        ValueError: The message names the index, the shard, the field and its value.
    """
    first = 0
    for stream, size in zip(dataset.streams, dataset.shards_per_stream, strict=True):
        index = os.path.join(stream.local, stream.split, get_index_basename())
        check_shards(index, dataset.shards[first : first + int(size)], stream.validate_hash)
        first += int(size)


def check_shards(index: str, shards: Sequence[Any], validate_hash: str | None = None) -> None:
    """Refuse shards of one index whose description makes no sense.

    Args:
        index (str): Where it is, for the message.
        shards (Sequence[Any]): Streaming's readers.
        validate_hash (str | None): The hash that each must have, if any.

    Raises:
        ValueError: See :func:`check_index`.
    """
    taken = {get_index_basename()}
    for number, shard in enumerate(shards):
        for field, value, fault in _faults(shard, taken, validate_hash):
            raise ValueError(
                f"{index} says {field}={value!r} of its shard {number}, {fault}. Do not use "
                "this data set, or have it written again"
            )


def _faults(
    shard: Any, taken: set[str], validate_hash: str | None
) -> Iterator[tuple[str, Any, str]]:
    """What is wrong with a shard: field, value, and why."""
    for info in (info for pair in shard.file_pairs for info in pair if info is not None):
        yield from _faults_of_file(info, taken)
        if validate_hash and validate_hash not in info.hashes:
            yield "hashes", info.hashes, f"but validate_hash={validate_hash!r} asks for another"
        taken.add(str(PurePath(info.basename)))
    if not _is_count(shard.samples):
        yield "samples", shard.samples, "which is no number of samples"
    if shard.compression is not None and not is_compression(shard.compression):
        yield "compression", shard.compression, "which streaming does not know"
    if hasattr(shard, "column_sizes"):  # of MDS; text formats have other encodings
        yield from _faults_of_columns(shard)


def _faults_of_file(info: FileInfo, taken: set[str]) -> Iterator[tuple[str, Any, str]]:
    name = info.basename
    if not isinstance(name, str) or "\0" in name or PurePath(name).name in ("", ".."):
        yield "basename", name, "which is no name of a file"
    elif PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        yield "basename", name, "which is outside the folder of the data set"
    elif str(PurePath(name)) in taken:  # of several ways to write it
        yield "basename", name, "which is the name of another file"
    if not _is_count(info.bytes) or info.bytes == 0:
        yield "bytes", info.bytes, "which is no size of a file"


def _faults_of_columns(shard: Any) -> Iterator[tuple[str, Any, str]]:
    names, encodings, sizes = shard.column_names, shard.column_encodings, shard.column_sizes
    if not len(names) == len(encodings) == len(sizes):
        yield "column_names", names, f"but has {len(encodings)} encodings and {len(sizes)} sizes"
    for encoding in encodings:
        if not _is_known(encoding):
            yield "column_encodings", encodings, f"but {encoding!r} is not known to streaming"
    for size in sizes:
        if size is not None and not (_is_count(size) and size <= shard.raw_data.bytes):
            yield "column_sizes", sizes, f"but {size!r} is no size of a column"


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


@functools.cache
def _is_known(encoding: str) -> bool:
    try:
        return _get_coder(encoding) is not None
    except Exception:  # whatever it makes of the text behind the colon
        return False
