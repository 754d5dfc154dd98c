# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""An index is read alone, from a folder or an object store, and what is none is told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mds_samples import NUM_SAMPLES, SHARDS, columns_of, make_dataset, write_shards
from object_store import ObjectStore
from streaming import CSVWriter, JSONWriter

from composer_dataagent import select
from composer_dataagent.streaming.index_file import read_index


def sizes_of_files(folder: str | Path, pattern: str) -> list[int]:
    return [path.stat().st_size for path in sorted(Path(folder).glob(pattern))]


def test_a_folder(shards: str) -> None:
    index = read_index(shards)
    assert index.sizes.samples.tolist() == list(SHARDS)
    assert index.sizes.stored.tolist() == sizes_of_files(shards, "*.mds")
    assert index.sizes.raw.tolist() == index.sizes.stored.tolist()
    assert index.sizes.ranged.all() and not index.whole
    parent, _, name = shards.rpartition("/")
    assert read_index(parent, name).sizes.samples.tolist() == list(SHARDS)


def test_compressed_shards(tmp_path: Path) -> None:
    index = read_index(write_shards(tmp_path, compression="zstd"))
    assert index.sizes.stored.tolist() == sizes_of_files(tmp_path, "*.zstd")
    assert (index.sizes.raw > index.sizes.samples * 16).all()
    assert not np.array_equal(index.sizes.raw, index.sizes.stored)
    assert not index.sizes.ranged.any()
    assert index.whole == {"compressed": index.sizes.stored.sum()}


@pytest.mark.parametrize(("writer", "files"), [(JSONWriter, "*.json*"), (CSVWriter, "*.csv*")])
def test_other_formats(tmp_path: Path, writer: type, files: str) -> None:
    with writer(out=str(tmp_path), columns={"id": "int", "x": "float"}, size_limit=300) as out:
        for sample_id in range(50):
            out.write(columns_of(sample_id))
    index = read_index(str(tmp_path))
    assert index.sizes.num_samples == 50
    shards = [path for path in tmp_path.glob(files) if path.name != "index.json"]
    assert index.sizes.stored.sum() == sum(path.stat().st_size for path in shards)
    assert index.sizes.files.tolist() == [2] * len(index.sizes.samples)
    assert list(index.whole) == ["not of the MDS format"]
    # Such data can be selected from, too.
    dataset = make_dataset(str(tmp_path), shuffle=False)
    select(dataset, range(0, 50, 3))
    assert [sample["id"] for sample in dataset] == list(range(0, 50, 3))


def test_hashes_need_whole_shards(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, hashes=["sha1"])
    assert read_index(folder).sizes.ranged.all()
    checked = read_index(folder, validate_hash="sha1")
    assert not checked.sizes.ranged.any()
    with pytest.raises(ValueError, match="validate_hash='md5' asks for another"):
        read_index(folder, validate_hash="md5")


def test_of_an_object_store_only_the_index_is_read(
    store: ObjectStore, remotes: dict[str, str], shards: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    index = read_index(remotes["plain"])
    assert index.sizes.num_samples == NUM_SAMPLES
    assert index.sizes.stored.tolist() == sizes_of_files(shards, "*.mds")
    assert store.requests()
    assert all(request.endswith("/index.json") for request in store.requests())
    with pytest.raises(OSError, match=r"s3://data/nothing/index\.json cannot be downloaded \("):
        read_index("s3://data/nothing")
    with pytest.raises(OSError, match="Unsupported remote path"):
        read_index("ftp://data/plain")


def test_what_is_no_index(tmp_path: Path, shards: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no .*index\.json: name the folder"):
        read_index(str(tmp_path))
    index = tmp_path / "index.json"
    for content in ("", "[]", "{}", '{"version": 1, "shards": []}', '{"version": 2, "shards": 3}'):
        index.write_text(content)
        with pytest.raises(ValueError, match="is no index that streaming can read"):
            read_index(str(tmp_path))
    index.write_text('{"version": 2, "shards": []}')
    with pytest.raises(ValueError, match="has no samples"):
        read_index(str(tmp_path))
    found = json.loads(Path(shards, "index.json").read_text())
    found["shards"][1]["raw_data"]["bytes"] = -4
    index.write_text(json.dumps(found))
    with pytest.raises(ValueError, match="says bytes=-4 of its shard 1, which is no size of a"):
        read_index(str(tmp_path))
    found["shards"][1]["format"] = "parquet"
    index.write_text(json.dumps(found))
    with pytest.raises(ValueError, match="KeyError: 'parquet'"):
        read_index(str(tmp_path))
