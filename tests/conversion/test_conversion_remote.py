# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``--remote`` of both converters: shards in an object store, whole or without an index."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import conversions
import inspect_shards
import pytest
import yaml
from click.testing import CliRunner
from conversion_folders import files_of
from image_files import convert, converted, image_folder, stored, told
from object_store import Fault, ObjectStore, object_store
from streaming import StreamingDataset

SMALL = ["--shard-mb", 0.004]


@pytest.fixture(scope="module")
def running_store() -> Iterator[ObjectStore]:
    with object_store() as running:
        yield running


@pytest.fixture
def store(running_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    for name, value in running_store.environment.items():
        monkeypatch.setenv(name, value)
    running_store.mend()
    return running_store


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("photos"), "train", 60)


def read_from(remote: str, cache: Path) -> list[tuple[bytes, int]]:
    """As stock streaming reads them, sample by sample."""
    dataset = StreamingDataset(remote=remote, local=str(cache), batch_size=1, shuffle=False)
    samples: list[Any] = [dataset[i] for i in range(dataset.num_samples)]
    return [(sample["image"].fp.getvalue(), sample["label"]) for sample in samples]


def uploaded(store: ObjectStore) -> list[str]:
    return [request.removeprefix("PUT ") for request in store.requests() if "PUT " in request]


@pytest.mark.parametrize("keep", [[], ["--keep-local"]])
def test_shards_in_a_store_are_those_of_a_folder(
    tmp_path: Path, store: ObjectStore, photos: Path, keep: list[str]
) -> None:
    remote = f"s3://data/{'kept' if keep else 'sent'}"
    converted("folder", photos, "--out", tmp_path / "plain", *SMALL)
    arguments = ["folder", photos, "--out", tmp_path / "out", *SMALL, "--remote", remote, *keep]
    converted(*arguments)
    assert bool(list((tmp_path / "out").rglob("*.mds"))) == bool(keep)
    assert uploaded(store)[-1].endswith("/index.json")
    assert read_from(remote, tmp_path / "cache") == stored(tmp_path / "plain")
    recipe = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    dataset = recipe["train_loader"]["dataset"]
    assert dataset.get("remote") == (None if keep else remote)

    store.mend()  # forgets requests
    converted(*arguments)
    assert not uploaded(store)
    result = convert("verify", remote)
    assert result.exit_code == 0 and "60 of 60 samples can be read" in result.stdout


def test_the_tools_find_what_is_wrong_in_a_store(
    tmp_path: Path, store: ObjectStore, photos: Path
) -> None:
    remote = "s3://data/looked/train"
    converted("folder", photos, "--out", tmp_path / "out", *SMALL, "--remote", remote)

    def looked_at(source: str) -> dict[str, Any]:
        result = CliRunner().invoke(inspect_shards.main, [source, "--json"])
        assert result.exit_code == 0, result.output
        (facts,) = json.loads(result.output)
        return facts

    facts = looked_at("s3://data/looked")  # the folder above
    assert facts["where"] == remote and facts["samples"] == 60
    assert facts["file_faults"] == [] and facts["not_ranged"] == {}
    assert facts["sample_bytes"]["of_samples"] == 60
    assert facts["first_samples"][0]["image"] == "PNG, 8 x 8, L"
    store.break_down(Fault("part_00001/shard", "flip", 3000))
    result = convert("verify", remote)
    assert result.exit_code == 1 and "1 shards are damaged" in told(result)
    assert "part_00001/shard.00000.mds, after 0 of" in told(result)
    store.mend()
    store.put("looked/train/part_00001/shard.00000.mds", b"short")
    (fault,) = looked_at(remote)["file_faults"]
    assert "part_00001/shard.00000.mds has 5 bytes, but the index says" in fault
    arguments = ["folder", photos, "--out", tmp_path / "out", *SMALL, "--remote", remote]
    again = convert(*arguments)
    assert again.exit_code == 1 and "has 5 bytes" in told(again)
    shutil.rmtree(tmp_path / "out" / "part_00001")  # as it says
    converted(*arguments)
    assert looked_at(remote)["file_faults"] == []
    assert convert("verify", remote).exit_code == 0


def test_an_upload_that_fails_goes_on(tmp_path: Path, store: ObjectStore, photos: Path) -> None:
    remote = "s3://data/fails"
    arguments = ["folder", photos, "--out", tmp_path / "out", *SMALL, "--remote", remote]
    store.break_down(Fault("fails/part_00002", "status", 403))
    result = convert(*arguments)
    assert result.exit_code == 1 and "cannot be written" in told(result)
    assert "give the same command again" in told(result)
    first = uploaded(store)
    assert any("part_00001" in each for each in first)
    assert not any("index.json" in each for each in first)
    store.mend()
    converted(*arguments)
    assert not any("part_00001" in each for each in uploaded(store))
    converted("folder", photos, "--out", tmp_path / "plain", *SMALL)
    assert read_from(remote, tmp_path / "cache") == stored(tmp_path / "plain")


def test_nobodys_data_are_written_over(tmp_path: Path, store: ObjectStore, photos: Path) -> None:
    store.put("mine/index.json", b'{"version": 2, "shards": []}')
    arguments = ["--out", tmp_path / "out", "--remote", "s3://data/mine"]
    result = convert("folder", photos, *arguments)
    assert result.exit_code == 1 and "has a data set already" in told(result)
    assert not uploaded(store)
    result = convert("folder", photos, "--out", tmp_path / "o", "--remote", "s3://nowhere/x")
    assert result.exit_code == 1 and "--remote: s3://nowhere/x" in told(result)


def test_a_remote_may_be_a_folder(tmp_path: Path, photos: Path) -> None:
    remote = tmp_path / "there"
    converted("folder", photos, "--out", tmp_path / "out", *SMALL, "--remote", remote)
    converted("folder", photos, "--out", tmp_path / "plain", *SMALL)
    assert not list((tmp_path / "out").rglob("*.mds"))
    shards = {name for name in files_of(tmp_path / "plain") if name.endswith(".mds")}
    assert {*files_of(remote)} == {"index.json", *shards}
    assert stored(remote) == stored(tmp_path / "plain")


def test_shards_of_texts_go_to_a_store_too(tmp_path: Path, store: ObjectStore) -> None:
    rows = [{"text": f"Text {i}: " + "word " * 30} for i in range(40)]
    path = conversions.lines_file(tmp_path / "a.jsonl", rows)
    options = ["--length", 32, "--part-mb", 0.002, "--jobs", 1]
    conversions.converted(path, "--out", tmp_path / "plain", *options)
    sent = ["--out", tmp_path / "out", *options, "--remote", "s3://data/texts/"]
    told = conversions.converted(path, *sent)
    assert not list((tmp_path / "out").rglob("*.mds"))
    assert conversions.converted(path, *sent) == told
    remote: dict[str, Any] = {"remote": "s3://data/texts", "local": str(tmp_path / "cache")}
    dataset = StreamingDataset(**remote, batch_size=1, shuffle=False)
    found = [dataset[i]["tokens"].tolist() for i in range(dataset.num_samples)]
    expected = [row["tokens"].tolist() for row in conversions.samples(tmp_path / "plain")]
    assert found == expected and len(found) == told["samples"]
    other = conversions.convert(path, "--out", tmp_path / "out", *options)
    assert "was begun with keep_local=False" in " ".join(other.output.split())
