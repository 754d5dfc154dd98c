# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Shards where they are kept, in a folder or an object store: are they there, and can be read?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from streaming.base.compression import decompress
from streaming.base.format import FileInfo
from streaming.base.format.mds.encodings import is_mds_encoding_safe
from streaming.base.format.mds.reader import MDSReader
from streaming.base.hashing import get_hash
from streaming.base.storage import CloudDownloader

from composer_dataagent.streaming.index_file import is_folder
from composer_dataagent.streaming.reading import MappedMDSReader
from composer_dataagent.streaming.remotes import can_read_ranges, open_store

TIMEOUT = 60.0  # seconds of a request


class DamagedError(ValueError):
    """A shard is not what its index says."""


def faults_of_files(source: str, shards: Sequence[Any]) -> list[str] | None:
    """Which files are not there, or not of the size that the index says.

    Args:
        source (str): Folder or URL that has the index.
        shards (Sequence[Any]): Streaming's readers.

    Returns:
        list[str] | None: A sentence for each file; None if nothing tells what is there, short of
        downloading it.

    Raises:
        OSError: The object store does not answer.
    """
    size_of = _sizes(source)
    if size_of is None:
        return None
    found = (
        _fault(source, size_of, raw, packed) for shard in shards for raw, packed in shard.file_pairs
    )
    return [fault for fault in found if fault is not None]


def _fault(
    source: str,
    size_of: Callable[[str], int | None],
    raw: FileInfo,
    packed: FileInfo | None,
) -> str | None:
    """A file is there packed, or as streaming unpacks it."""
    worst = None
    for info in filter(None, (packed, raw)):
        size = size_of(info.basename)
        if size == info.bytes:
            return None
        if size is not None:
            worst = f"{source}/{info.basename} has {size} bytes, but the index says {info.bytes}"
    return worst or f"{source}/{(packed or raw).basename} is not there"


def _sizes(source: str) -> Callable[[str], int | None] | None:
    """Name of a file to its bytes, or None if it is not there."""
    if is_folder(source):

        def of_file(name: str) -> int | None:
            path = Path(source, name)
            return path.stat().st_size if path.is_file() else None

        return of_file
    if not can_read_ranges(source):
        return None
    try:
        batches = open_store(source, TIMEOUT).list()
        there = {each["path"]: each["size"] for batch in batches for each in batch}
    except Exception as error:  # of any provider's client
        raise OSError(f"{source} cannot be listed ({type(error).__name__}: {error})") from error
    # With the folder before them in some stores' clients, and without it in others.
    prefix = "/".join(source.split("://", 1)[1].split("/")[1:]).strip("/") + "/"
    return {name.removeprefix(prefix): size for name, size in there.items()}.get


@contextmanager
def unpacked(source: str, shard: Any) -> Iterator[Any]:
    """A shard as it can be read: the file itself where that is possible, else a copy for a while.

    Args:
        source (str): Folder or URL that has the index.
        shard (Any): Streaming's reader of one of its shards; left as it is.

    Yields:
        Any: A reader whose files are local, with the sizes and hashes that the index says.

    Raises:
        DamagedError: A file is not there, or has another size or another hash.
        OSError: It cannot be downloaded.
    """
    with TemporaryDirectory() as folder:
        reader = copy(shard)
        in_place = is_folder(source) and all(
            Path(source, raw.basename).is_file() for raw, _ in shard.file_pairs
        )
        reader.dirname, reader.split = source if in_place else folder, ""
        if type(reader) is MDSReader:
            reader.__class__ = MappedMDSReader  # streaming's opens the file for each sample
        for raw, packed in shard.file_pairs:
            if in_place:
                _check(Path(source, raw.basename).read_bytes(), raw)
                continue
            content = _content(source, (packed or raw).basename, folder)
            _check(content, packed or raw)
            if packed is not None:
                content = decompress(shard.compression, content)
                _check(content, raw)
            path = Path(folder, raw.basename)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        yield reader


def _content(source: str, name: str, folder: str) -> bytes:
    where = os.path.join(source, name)
    if is_folder(source):
        try:
            return Path(where).read_bytes()
        except FileNotFoundError:
            raise DamagedError(f"{where} is not there") from None
    local = Path(folder, "download")
    try:
        downloader = CloudDownloader.get(source)
        downloader.download(where, str(local), TIMEOUT)
        downloader.clean_up()
        content = local.read_bytes()
    except Exception as error:  # of any provider's client
        raise OSError(f"{where} cannot be downloaded ({type(error).__name__}: {error})") from error
    local.unlink()
    return content


def _check(content: bytes, info: FileInfo) -> None:
    if len(content) != info.bytes:
        raise DamagedError(
            f"{info.basename} has {len(content)} bytes, but the index says {info.bytes}"
        )
    for name, expected in info.hashes.items():
        if (found := get_hash(name, content)) != expected:
            raise DamagedError(
                f"{info.basename} has the {name} {found}, but the index says {expected}"
            )


def samples_of(reader: Any) -> Iterator[dict[str, Any]]:
    """All samples of a shard that is :func:`unpacked`, as streaming decodes them.

    Raises:
        DamagedError: One cannot be decoded, or must not be: a pickle runs code.
    """
    unsafe = [each for each in getattr(reader, "column_encodings", ()) if not _is_safe(each)]
    if unsafe:
        raise DamagedError(
            f"{reader.raw_data.basename} has a column of {unsafe[0]!r}, which could run any code: "
            "it is not read"
        )
    for i in range(reader.samples):
        yield _sample(reader, i)


def _sample(reader: Any, i: int) -> dict[str, Any]:
    try:
        return reader[i]
    except Exception as error:  # whatever a decoder raises
        raise DamagedError(
            f"{reader.file_pairs[0][0].basename}: sample {i} cannot be read "
            f"({type(error).__name__}: {error})"
        ) from error


def _is_safe(encoding: str) -> bool:
    return is_mds_encoding_safe(encoding.partition(":")[0])
