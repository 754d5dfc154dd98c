# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The fast readers give what streaming's own reader gives, and nothing from a damaged file."""

from __future__ import annotations

import gc
import pickle
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from streaming import MDSWriter, StreamingDataset
from streaming.base.format.mds.encodings import get_mds_encodings

from composer_dataagent.streaming import attach
from composer_dataagent.streaming.reading import (
    DamagedShardError,
    FastMDSReader,
    FastSpanner,
    MappedMDSReader,
    OpenMDSReader,
)

COUNT = 5
RNG = np.random.default_rng(0)
IMAGES = [Image.fromarray(RNG.integers(0, 255, (4, 6, 3), np.uint8)) for _ in range(COUNT)]
VALUES: dict[str, Any] = {
    "bytes": lambda i: bytes(range(i)),
    "str": lambda i: "ä" * i,
    "int": lambda i: -i,
    "ndarray": lambda i: np.arange(i + 1, dtype=np.float32),
    "ndarray:int16": lambda i: np.ones((i + 1, 2), np.int16),
    "ndarray:uint8:2,3": lambda i: np.full((2, 3), i, np.uint8),
    "uint8": lambda i: i,
    "float64": lambda i: i / 3,
    "str_decimal": lambda i: __import__("decimal").Decimal(i) / 7,
    "pil": IMAGES.__getitem__,
    "png": IMAGES.__getitem__,
    "jpeg": IMAGES.__getitem__,
    "json": lambda i: {"a": [i, None]},
    "pkl": lambda i: {i, "x"},
    "list[pil]": lambda i: IMAGES[: i + 1],
}


@pytest.fixture
def folder(tmp_path: Path) -> str:
    unknown = {name.partition(":")[0] for name in VALUES} - get_mds_encodings()
    columns = {name: name for name in VALUES if name.partition(":")[0] not in unknown}
    with MDSWriter(out=str(tmp_path), columns=columns, size_limit=None) as out:
        for i in range(COUNT):
            out.write({name: VALUES[name](i) for name in columns})
    return str(tmp_path)


def plain(value: Any) -> Any:
    """What can be compared with ``==``."""
    if isinstance(value, Image.Image):
        return value.mode, value.size, value.tobytes()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.tolist(), value.flags.writeable
    if isinstance(value, list):
        return [plain(item) for item in value]
    return type(value), value


@pytest.mark.parametrize("memory_map", [False, True])
@pytest.mark.parametrize("cache_limit", [None, "1gb"])
def test_samples_are_those_of_stock_streaming(
    folder: str, memory_map: bool, cache_limit: str | None
) -> None:
    arguments: dict[str, Any] = {"local": folder, "batch_size": 1, "allow_unsafe_types": True}
    stock = StreamingDataset(**arguments)
    fast = StreamingDataset(**arguments, cache_limit=cache_limit)
    if memory_map and cache_limit:
        with pytest.raises(ValueError, match=r"memory_map=True.*cache_limit.*Remove one"):
            attach(fast, memory_map=memory_map)
        return
    attach(fast, memory_map=memory_map)
    expected = FastMDSReader if cache_limit else MappedMDSReader if memory_map else OpenMDSReader
    assert {type(shard) for shard in fast.shards} == {expected}
    for i in [*range(COUNT), -1]:
        ours, theirs = fast[i], stock[i]
        assert list(ours) == list(theirs)
        assert {k: plain(v) for k, v in ours.items()} == {k: plain(v) for k, v in theirs.items()}
    assert len(fast[1:3]) == 2
    again = pickle.loads(pickle.dumps(fast.shards[0]))
    assert plain(again[2]["str"]) == plain(stock[2]["str"])


@pytest.mark.parametrize("memory_map", [False, True])
@pytest.mark.parametrize("size", [-1, +1])
def test_a_file_of_another_size_is_not_read(folder: str, memory_map: bool, size: int) -> None:
    dataset = StreamingDataset(local=folder, batch_size=1, allow_unsafe_types=True)
    file = next(Path(folder).glob("*.mds"))
    content = file.read_bytes() + b"\0"
    file.write_bytes(content[: len(content) - 1 + size])
    attach(dataset, memory_map=memory_map)
    with pytest.raises(DamagedShardError, match=rf"{file.name} is damaged: it has"):
        dataset.shards[0][0]


def test_a_header_that_points_nowhere_is_not_followed(folder: str) -> None:
    dataset = StreamingDataset(local=folder, batch_size=1, allow_unsafe_types=True)
    file = next(Path(folder).glob("*.mds"))
    content = bytearray(file.read_bytes())
    content[8:12] = b"\xff\xff\xff\x7f"
    file.write_bytes(content)
    attach(dataset)
    with pytest.raises(DamagedShardError, match=r"sample 1 is from byte 2147483647"):
        dataset.shards[0][1]


def test_more_shards_than_files_are_kept_open(tmp_path: Path, monkeypatch: Any) -> None:
    from composer_dataagent.streaming import reading

    monkeypatch.setattr(reading, "_FILES_KEPT", 2)
    with MDSWriter(out=str(tmp_path), columns={"id": "int"}, size_limit=64) as out:
        for i in range(40):
            out.write({"id": i})
    dataset = StreamingDataset(local=str(tmp_path), batch_size=1)
    attach(dataset)
    order = np.random.default_rng(0).integers(0, 40, 200)
    assert [dataset[int(i)]["id"] for i in order] == order.tolist()
    assert len(dataset.shards) > 2 >= len(OpenMDSReader._files)
    del dataset
    gc.collect()
    assert not OpenMDSReader._files


def test_more_shards_than_files_can_be_mapped(folder: str) -> None:
    dataset = StreamingDataset(local=folder, batch_size=1, allow_unsafe_types=True)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"memory_map=True .* 1 shards, .* 256: raise that"):
            attach(dataset, memory_map=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert type(dataset) is StreamingDataset
    attach(dataset, memory_map=True)


def test_the_shard_of_every_sample(tmp_path: Path) -> None:
    with MDSWriter(out=str(tmp_path), columns={"id": "int"}, size_limit=80) as out:
        for i in range(40):
            out.write({"id": i})
    stock = StreamingDataset(local=str(tmp_path), batch_size=1)
    fast = StreamingDataset(local=str(tmp_path), batch_size=1)
    attach(fast)
    assert type(fast.spanner) is FastSpanner
    for i in range(40):
        assert fast.spanner[i] == stock.spanner[i]
    for i in (-41, 40):
        with pytest.raises(IndexError):
            fast.spanner[i]


def test_another_dataset_in_the_same_place(tmp_path: Path) -> None:
    for first in (0, 100):
        for file in tmp_path.iterdir():
            file.unlink()
        with MDSWriter(out=str(tmp_path), columns={"id": "int"}) as out:
            for i in range(3):
                out.write({"id": first + i})
        dataset = StreamingDataset(local=str(tmp_path), batch_size=1)
        attach(dataset)
        assert [dataset[i]["id"] for i in range(3)] == [first, first + 1, first + 2]
