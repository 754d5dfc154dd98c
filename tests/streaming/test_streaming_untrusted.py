# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Data from strangers: an index that lies is refused, and nothing outside the cache is touched."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from epoch_runs import Epoch, Outcome, run_epochs
from filelock import FileLock
from mds_samples import write_shards
from streaming import StreamingDataset

from composer_dataagent.streaming import ShardError, attach

SHARD = "shard.00001.mds"
SIZES = (13, 29, 7)
Index = dict[str, Any]


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Deep enough that two folders up is still ours."""
    return Path(write_shards(tmp_path / "store" / "a" / "remote", SIZES))


@pytest.fixture
def local(tmp_path: Path) -> Path:
    return tmp_path / "disk" / "b" / "local"


def change(remote: Path, what: Callable[[Index], Any]) -> None:
    """Change the index; ``what`` may return another one."""
    path = remote / "index.json"
    index = json.loads(path.read_text())
    changed = what(index)
    path.write_text(json.dumps(index if changed is None else changed))


def try_epoch(remote: Path, local: Path, selected: int = sum(SIZES), **dataset: Any) -> Outcome:
    arguments = {"remote": str(remote), "local": str(local), "download_retry": 1, **dataset}
    ((outcome,),) = run_epochs(Epoch(range(selected)), dataset=arguments)
    return outcome


def files_outside(tmp_path: Path, local: Path) -> dict[Path, bytes]:
    """All files but those of the cache folder, with their content."""
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in paths if local not in path.parents}


# ---------------------------------------------------------------------- names that leave the folder

PLACES = {
    "up": "../../escaped.mds",
    "up and down": "sub/../../../escaped.mds",
    "absolute": "{folder}/disk/escaped.mds",
}
COPIES = pytest.mark.parametrize("copy", ["none", "sound", "damaged"])


@pytest.mark.parametrize("kind", ["raw_data", "zip_data"])
@pytest.mark.parametrize("place", PLACES)
@COPIES
def test_a_name_that_leaves_the_folder(
    remote: Path, local: Path, tmp_path: Path, place: str, kind: str, copy: str
) -> None:
    """Neither is a file written there, nor is one that is there read or deleted."""
    if kind == "zip_data":
        shutil.rmtree(remote)
        write_shards(remote, SIZES, compression="zstd")
    name = PLACES[place].format(folder=tmp_path)

    def leave(index: Index) -> None:
        index["shards"][1][kind]["basename"] = name

    shard = SHARD if kind == "raw_data" else f"{SHARD}.zstd"
    content = (remote / shard).read_bytes()
    (remote / shard).unlink()
    change(remote, leave)
    (tmp_path / "store" / "escaped.mds").write_bytes(content)  # what is fetched
    (tmp_path / "disk").mkdir()
    if copy != "none":
        victim = tmp_path / "disk" / "escaped.mds"  # what it would be fetched to
        victim.write_bytes(content if copy == "sound" else b"precious")
    before = files_outside(tmp_path, local)
    outcome = try_epoch(remote, local)
    assert files_outside(tmp_path, local) == before
    assert name in outcome.error and "index.json" in outcome.error
    assert outcome.batches == []


def test_a_name_in_a_subfolder_is_fine(remote: Path, local: Path) -> None:
    """As streaming's merge_index makes it."""
    (remote / "sub").mkdir()
    (remote / SHARD).rename(remote / "sub" / SHARD)
    change(remote, lambda index: index["shards"][1]["raw_data"].update(basename=f"sub/{SHARD}"))
    outcome = try_epoch(remote, local)
    assert outcome.error == "" and sum(map(len, outcome.batches)) == sum(SIZES)


# ---------------------------------------------------------------------- values that make no sense


def of_shard(**values: Any) -> Callable[[Index], None]:
    return lambda index: index["shards"][1].update(values)


def of_file(**values: Any) -> Callable[[Index], None]:
    return lambda index: index["shards"][1]["raw_data"].update(values)


# What is said of them here; the others are refused by streaming, when the dataset is made.
ABSURD = {
    "negative bytes": (of_file(bytes=-5), r"bytes"),
    "no bytes": (of_file(bytes=0), r"bytes"),
    "huge bytes": (of_file(bytes=2**62), r"bytes"),
    "more than 64 bits of bytes": (of_file(bytes=2**70), r"bytes"),
    "bytes are text": (of_file(bytes="many"), r"bytes"),
    "no name": (of_file(basename=""), r"basename"),
    "a dot": (of_file(basename="."), r"basename"),
    "a null": (of_file(basename="a\0b"), r"basename"),
    "the index": (of_file(basename="index.json"), r"basename"),
    "one name twice": (of_file(basename="shard.00000.mds"), r"basename"),
    "one name in two ways": (of_file(basename=".//shard.00000.mds"), r"basename"),
    "the index in another way": (of_file(basename="./index.json"), r"basename"),
    "unknown encoding": (of_shard(column_encodings=["int", "gif"]), r"gif"),
    "encoding with nonsense": (of_shard(column_encodings=["int", "ndarray:x:y:z"]), r"ndarray"),
    "pickle in disguise": (of_shard(column_encodings=["int", "pkl:x"]), r"pkl"),
    "one column less": (of_shard(column_encodings=["int"]), r"column"),
    "negative column": (of_shard(column_sizes=[8, -8]), r"column"),
    "huge column": (of_shard(column_sizes=[8, 2**62]), r"column"),
    "unknown compression": (of_shard(compression="rar"), r"compression|rar"),
}
REFUSED_BY_STREAMING = {
    "pickle": (of_shard(column_encodings=["int", "pkl"]), r"unsafe type: pkl"),
    "a number for a name": (of_file(basename=5), r"not 'int'"),
    "negative samples": (of_shard(samples=-5), r"\S"),
    "endless samples": (of_shard(samples=2**62), r"\S"),
    "more than 64 bits of samples": (of_shard(samples=2**70), r"\S"),
    "samples are text": (of_shard(samples="many"), r"\S"),
    "no shards": (lambda index: index.update(shards=[]), r"no samples"),
    "no samples": (
        lambda index: [shard.update(samples=0) for shard in index["shards"]] and None,
        r"no samples",
    ),
    "other version": (lambda index: index.update(version=3), r"version: 3"),
    "other version of a shard": (of_shard(version=3), r"\S"),
    "no version": (lambda index: index.pop("version") and None, r"version"),
    "unknown format": (of_shard(format="exe"), r"exe"),
    "no list": (lambda index: index.update(shards=5), r"\S"),
    "a list": (lambda index: [index], r"\S"),
    "unknown field": (of_shard(surprise=1), r"surprise"),
}


@pytest.mark.parametrize("name", ABSURD)
def test_absurd(remote: Path, local: Path, tmp_path: Path, name: str) -> None:
    what, message = ABSURD[name]
    change(remote, what)
    before = files_outside(tmp_path, local)
    outcome = try_epoch(remote, local)
    assert files_outside(tmp_path, local) == before
    assert re.search(message, outcome.error)
    assert re.search(r"shard\.00001\.mds|index\.json|[Ss]hard 1", outcome.error)
    assert outcome.batches == []


@pytest.mark.parametrize("name", REFUSED_BY_STREAMING)
def test_refused_by_streaming(remote: Path, local: Path, name: str) -> None:
    what, message = REFUSED_BY_STREAMING[name]
    change(remote, what)
    outcome = try_epoch(remote, local)
    assert re.search(message, outcome.error)
    assert outcome.batches == []


@pytest.mark.parametrize("samples", [SIZES[1] - 1, SIZES[1] + 1, 10_000_000])
def test_another_number_of_samples_than_in_the_file(
    remote: Path, local: Path, samples: int
) -> None:
    """All samples behind them have other ids then."""
    change(remote, of_shard(samples=samples))
    first = SIZES[0] + min(samples, SIZES[1])
    outcome = try_epoch(remote, local, first)
    assert SHARD in outcome.error
    assert f"{SIZES[1]} samples, but the index says {samples}" in outcome.error


def test_huge_bytes_with_a_cache_limit(remote: Path, local: Path) -> None:
    change(remote, of_file(bytes=2**62))
    assert "too low" in try_epoch(remote, local, cache_limit="1mb").error


@pytest.mark.filterwarnings("ignore:overflow encountered in scalar multiply:RuntimeWarning")
def test_a_shard_without_room_leaves_the_cache_to_others(remote: Path, local: Path) -> None:
    """Also while its error is being told, which holds the frames that it came up in."""
    change(remote, of_file(bytes=2**62))
    dataset: Any = StreamingDataset(
        remote=str(remote), local=str(local), cache_limit="1mb", batch_size=1
    )
    attach(dataset)
    with pytest.raises(ShardError, match="too low"):
        dataset.prepare_shard(1)
    # In another thread: a lock can be taken again by the one that has it.
    with ThreadPoolExecutor(1) as other:
        lock = FileLock(dataset._cache_filelock_path)
        other.submit(lock.acquire, timeout=0).result()


def test_a_shard_whose_table_lies(remote: Path, local: Path) -> None:
    """Sizes match, but a sample is said to be where there is none."""
    path = remote / SHARD
    content = bytearray(path.read_bytes())
    content[4 * 5 : 4 * 6] = (2**32 - 1).to_bytes(4, "little")
    path.write_bytes(content)
    outcome = try_epoch(remote, local)
    assert SHARD in outcome.error and "damaged" in outcome.error
