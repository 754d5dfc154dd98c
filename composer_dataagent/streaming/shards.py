# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a shard's local files are what the index says."""

from __future__ import annotations

import os
from traceback import walk_tb
from typing import Any

from streaming import Stream
from streaming.base.format.mds.reader import MDSReader
from streaming.base.hashing import get_hash

from composer_dataagent.streaming.reading import FastMDSReader
from composer_dataagent.streaming.remotes import can_read_ranges

# Where samples begin is written in 4 bytes.
_MOST_BYTES = 1 << 32


def damage_of(shard: Any, stream: Stream) -> str | None:
    """What keeps a shard from being read, or None.

    A file is known by its size: see :func:`wrong_hash_of` for what is in it.

    Args:
        shard (Any): The reader of one of the stream's shards.
        stream (Stream): Where it is kept.

    Returns:
        str | None: A sentence, without an end. A file that needs to be unpacked first is fine.
    """
    if isinstance(shard, FastMDSReader) and shard.is_partial():
        return None
    for raw, packed in shard.file_pairs:
        path = path_of(stream, raw.basename)
        try:
            size = os.stat(path).st_size
        except FileNotFoundError:
            if packed is None or not os.path.exists(path_of(stream, packed.basename)):
                return f"{path} is not there"
            continue
        if size != raw.bytes:
            return f"{path} has {size} bytes, but the index says {raw.bytes}"
    return None


def wrong_hash_of(shard: Any, stream: Stream) -> str | None:
    """Which of a shard's files is not what ``validate_hash`` asks for, or None.

    Args:
        shard (Any): See :func:`damage_of`.
        stream (Stream): With ``validate_hash``.

    Returns:
        str | None: A sentence, without an end. A file that needs to be unpacked is left to
        streaming, which looks into it then.
    """
    algorithm = stream.validate_hash
    assert algorithm is not None
    for raw, _ in shard.file_pairs:
        path = path_of(stream, raw.basename)
        try:
            with open(path, "rb") as file:
                found = get_hash(algorithm, file.read())
        except FileNotFoundError:
            continue
        if found != raw.hashes[algorithm]:
            return f"{path} has the {algorithm} {found}, but the index says {raw.hashes[algorithm]}"
    return None


def is_unpacked(shard: Any, stream: Stream) -> bool:
    """Whether all files that samples are read from are there, of whatever size."""
    if isinstance(shard, FastMDSReader) and shard.is_partial():
        return True
    return all(os.path.exists(path_of(stream, raw.basename)) for raw, _ in shard.file_pairs)


def evict_unfinished(shard: Any) -> None:
    """Delete what somebody did not finish to prepare."""
    if isinstance(shard, FastMDSReader):
        shard.evict_unfinished()
    else:
        shard.evict()


def is_of_download(error: BaseException) -> bool:
    """Whether an error came up while a file was downloaded, not when it was checked or unpacked."""
    download = Stream._download_file.__code__
    return any(frame.f_code is download for frame, _ in walk_tb(error.__traceback__))


def can_be_fetched(stream: Stream) -> bool:
    """Whether there is another copy than the local one."""
    return stream.remote not in (None, stream.local)


def why_whole(shard: Any, remote: str | None, validate_hash: str | None) -> str | None:
    """What keeps a shard from being read by ranges, if anything does.

    Args:
        shard (Any): Its reader.
        remote (str | None): Where it is kept, as streaming takes it.
        validate_hash (str | None): The hash by which it is checked. Default: none.

    Returns:
        str | None: What the shard is.
    """
    if not can_read_ranges(remote):
        return "kept where no ranges can be read"
    if not isinstance(shard, MDSReader):
        return "not of the MDS format"
    if shard.compression:
        return "compressed"
    if validate_hash:
        return "checked by validate_hash, which needs all of a shard"
    if shard.raw_data.bytes >= _MOST_BYTES:
        return "larger than an MDS shard can be"
    return None


def path_of(stream: Stream, basename: str) -> str:
    """Where a file of a stream is kept."""
    return os.path.join(stream.local, stream.split, basename)
