# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The index of a data set, read without any of its shards."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from streaming.base.format import get_index_basename, reader_from_json
from streaming.base.storage import CloudDownloader

from composer_dataagent.streaming.egress import ShardSizes
from composer_dataagent.streaming.index_check import check_shards
from composer_dataagent.streaming.shards import why_whole

# As folders within data are called: one to train on, and those to evaluate on, best first.
SPLITS = ("train", "val", "valid", "validation", "eval", "test")


@dataclass(frozen=True, eq=False)
class IndexFile:
    """What an index says.

    Attributes:
        where (str): Of the index.
        sizes (ShardSizes): Of the shards.
        whole (dict[str, int]): Why shards cannot be read by ranges, and how many bytes these have.
        shards (tuple[Any, ...]): Streaming's readers, checked; of no folder.
        about (dict[str, Any]): What else it says: our converters tell of classes or tokens there.
    """

    where: str
    sizes: ShardSizes
    whole: dict[str, int]
    shards: tuple[Any, ...]
    about: dict[str, Any]


def read_index(
    source: str,
    split: str | None = None,
    *,
    validate_hash: str | None = None,
    timeout: float = 60.0,
) -> IndexFile:
    """Read an index; nothing else is downloaded.

    Args:
        source (str): Folder or URL of the data set, as streaming's ``remote`` takes it.
        split (str | None): Folder within it. Default: none.
        validate_hash (str | None): The hash by which a run checks shards, for which it needs all of
            each. Default: none.
        timeout (float): Seconds that the download may take. Default: ``60``.

    Returns:
        IndexFile: What it says.

    Raises:
        OSError: It is not there, or cannot be downloaded.
        ValueError: It is no index of streaming's, or says what makes no sense.
    """
    where = _where(source, split)
    content = index_bytes(source, split, timeout)
    try:
        found = json.loads(content)
        assert found["version"] == 2
        shards = [reader_from_json("", None, each) for each in found["shards"]]
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise ValueError(
            f"{where} is no index that streaming can read ({type(error).__name__}: {error}): name "
            "the folder that MDSWriter wrote"
        ) from error
    check_shards(where, shards, validate_hash)
    if not sum(shard.samples for shard in shards):
        raise ValueError(f"{where} has no samples")
    about = {name: value for name, value in found.items() if name not in ("version", "shards")}
    return _described(where, shards, about, validate_hash)


def index_bytes(source: str, split: str | None = None, timeout: float = 60.0) -> bytes:
    """An index as it is kept, not looked into.

    Args:
        source (str): See :func:`read_index`.
        split (str | None): Likewise.
        timeout (float): Likewise.

    Raises:
        OSError: It is not there, or cannot be downloaded.
    """
    where = _where(source, split)
    if is_folder(source):
        try:
            return Path(where).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f"There is no {where}: name the folder or URL of MDS shards, and --split if they "
                "are in a folder within it"
            ) from None
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, get_index_basename())
        try:
            downloader = CloudDownloader.get(source)
            downloader.download(where, local, timeout)
            downloader.clean_up()
        except Exception as error:  # of any provider's client
            raise OSError(
                f"{where} cannot be downloaded ({type(error).__name__}: {error})"
            ) from error
        return Path(local).read_bytes()


def is_folder(source: str) -> bool:
    """Whether data are on this machine, not in an object store."""
    return "://" not in source and not source.startswith("dbfs:")


def _where(source: str, split: str | None) -> str:
    return os.path.join(source, split or "", get_index_basename())


def _described(
    where: str, shards: Sequence[Any], about: dict[str, Any], validate_hash: str | None
) -> IndexFile:
    def column(values: list[int]) -> Any:
        return np.array(values, np.int64)

    reasons = [why_whole(shard, where, validate_hash) for shard in shards]
    stored = [sum((zipped or raw).bytes for raw, zipped in shard.file_pairs) for shard in shards]
    sizes = ShardSizes(
        samples=column([shard.samples for shard in shards]),
        raw=column([sum(raw.bytes for raw, _ in shard.file_pairs) for shard in shards]),
        stored=column(stored),
        ranged=np.array([reason is None for reason in reasons]),
        files=column([len(shard.file_pairs) for shard in shards]),
    )
    whole: dict[str, int] = {}
    for reason, size in zip(reasons, stored, strict=True):
        if reason is not None:
            whole[reason] = whole.get(reason, 0) + size
    return IndexFile(where, sizes, whole, tuple(shards), about)
