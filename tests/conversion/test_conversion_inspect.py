# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``tools/inspect_shards.py``: what it says of shards and runs is what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import conversions
import inspect_shards
import numpy as np
import pytest
from click.testing import CliRunner, Result
from image_files import NAMES, converted, image_folder, stored, told
from streaming import JSONWriter, MDSWriter
from synthetic_run import write_run


def look(*arguments: object) -> Result:
    return CliRunner().invoke(inspect_shards.main, [str(argument) for argument in arguments])


def facts_of(*arguments: object) -> list[dict[str, Any]]:
    result = look(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def shown(*arguments: object) -> dict[str, str]:
    """Names and texts of the table of one place."""
    result = look(*arguments)
    assert result.exit_code == 0, result.output
    lines = [line.split("  ", 1) for line in result.output.splitlines()[1:] if "  " in line]
    return {name: text.strip() for name, text in lines}


def numbers(folder: Path, **writer: Any) -> Path:
    """Shards of 30 samples of ten sizes."""
    columns = {"x": "ndarray:uint8", "text": "str"}
    with MDSWriter(out=str(folder), columns=columns, size_limit=600, **writer) as out:
        for i in range(30):
            out.write({"x": np.arange(1 + i % 10, dtype=np.uint8), "text": f"[bold]{i}"})
    return folder


def test_images(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "in", "train", 60)
    converted("folder", root, "--out", tmp_path / "out", "--shard-mb", 0.004)
    (facts,) = facts_of(tmp_path / "out", "--samples", 20)
    rows = stored(tmp_path / "out")
    assert facts["samples"] == 60 and facts["columns"] == {"image": "png", "label": "int"}
    shards = [path.stat().st_size for path in (tmp_path / "out").rglob("*.mds")]
    assert (facts["shards"], facts["bytes"]) == (len(shards), sum(shards))
    assert facts["mean_sample_bytes"] == sum(shards) / 60
    sizes = [len(data) + 4 + 8 for data, _ in rows]  # of the image's size, and of the label
    spread = facts["sample_bytes"]
    assert (spread["smallest"], spread["largest"]) == (min(sizes), max(sizes))
    assert spread["of_samples"] == 60 and spread["median"] == int(np.median(sizes))
    assert facts["first_samples"] == [
        {"image": "PNG, 8 x 8, L", "label": f"{label} ({NAMES[label]})"} for _, label in rows[:20]
    ]
    table = shown(tmp_path / "out", "--samples", 1)
    assert table["fetch: samples"].startswith("works") and table["hashes"] == "xxh64"
    assert table["files"] == "all there, of the sizes that the index says"
    assert table["sample 0, label"] == facts["first_samples"][0]["label"]


def test_texts(tmp_path: Path) -> None:
    path = conversions.lines_file(tmp_path / "a.jsonl", [{"text": "A text to look at"}] * 3)
    conversions.converted(path, "--out", tmp_path / "out", "--pad")
    table = shown(tmp_path / "out")
    assert table["columns"] == "prompt (int), tokens (ndarray:uint16)"
    assert table["sample 1, tokens"] == "uint16 [18]: A text to look at"
    assert "vocabulary: 257" in table["tokens"]


def test_folders_below(tmp_path: Path) -> None:
    for split in ("train", "val"):
        numbers(tmp_path / "data" / split)
    assert [Path(facts["where"]).name for facts in facts_of(tmp_path / "data")] == ["train", "val"]
    (facts,) = facts_of(tmp_path / "data" / "val" / "")
    assert facts["samples"] == 30
    assert shown(tmp_path / "data" / "val")["sample 2, text"] == "[bold]2"


def test_shards_that_cannot_be_read_by_ranges(tmp_path: Path) -> None:
    numbers(tmp_path / "zipped", compression="zstd", hashes=["sha1", "xxh64"])
    (facts,) = facts_of(tmp_path / "zipped", "--samples", 1)
    stored_bytes = sum(path.stat().st_size for path in (tmp_path / "zipped").glob("*.zstd"))
    assert facts["compression"] == ["zstd"] and facts["hashes"] == ["sha1", "xxh64"]
    assert facts["stored_bytes"] == stored_bytes != facts["bytes"]
    assert facts["not_ranged"] == {"compressed": stored_bytes} and facts["sample_bytes"] is None
    assert facts["first_samples"] == [{"text": "[bold]0", "x": "uint8 [1]: 0"}]
    assert "does not work, whole shards are fetched" in shown(tmp_path / "zipped")["fetch: samples"]
    with JSONWriter(out=str(tmp_path / "json"), columns={"a": "int"}) as out:
        out.write({"a": 5})
    (facts,) = facts_of(tmp_path / "json")
    assert facts["format"] == "json" and facts["columns"] == {"a": "int"}
    assert [*facts["not_ranged"]] == ["not of the MDS format"]
    assert facts["first_samples"] == [{"a": "5"}]


def test_files_that_are_not_whole(tmp_path: Path) -> None:
    first, second, *_ = sorted(numbers(tmp_path / "data").glob("*.mds"))
    first.write_bytes(first.read_bytes()[:-1])
    second.unlink()
    (facts,) = facts_of(tmp_path / "data")
    assert len(facts["file_faults"]) == 2
    assert "bytes, but the index says" in facts["file_faults"][0]
    assert f"{second} is not there" == facts["file_faults"][1]
    assert first.name in facts["why_no_samples"] and facts["first_samples"] == []
    assert shown(tmp_path / "data")["files"] == "2 are missing or of another size:"


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    with MDSWriter(out=str(tmp_path / "data"), columns={"a": "pkl"}) as out:
        out.write({"a": {"some": "object"}})
    (facts,) = facts_of(tmp_path / "data")
    assert facts["samples"] == 1 and facts["columns"] == {"a": "pkl"}
    assert "could run any code" in facts["why_no_samples"] and not facts["first_samples"]


@pytest.mark.parametrize("recipe", [True, False])
def test_a_run(tmp_path: Path, recipe: bool) -> None:
    run = write_run(tmp_path, epochs=4, num_samples=400)
    if recipe:
        written = {
            "run_name": "mine",
            "model": {"name": "small_cnn", "num_classes": 10},
            "train_loader": {"dataset": {"name": "image_classification", "local": "data/a"}},
            "trainer": {"max_duration": "4ep"},
        }
        (run.path / "recipe.json").write_text(json.dumps(written))
        (run.path / "finished").touch()
        (run.path / "checkpoints").mkdir()
        (run.path / "checkpoints" / "ep4-ba28-rank0.pt").write_bytes(b"12345")
    (facts,) = facts_of(run.path)
    last = run.rows[-1]
    assert facts["selector"] == "data_agent" and facts["ratio"] == 0.5
    assert (facts["rows"], facts["epochs"], facts["of_epochs"]) == (4, 4.0, 4)
    assert facts["samples_trained"] == last["samples_seen"]
    assert facts["final"] == last["metrics"][facts["metric"]]
    assert facts["best"] == max(row["metrics"][facts["metric"]] for row in run.rows)
    assert facts["finished"] == recipe
    table = shown(run.path)
    if recipe:
        assert facts["checkpoints"][0]["bytes"] == 5 and facts["model"] == "small_cnn"
        assert table["checkpoints"] == "1, 5 B, the last ep4-ba28-rank0.pt"
        assert table["trained on"] == "image_classification data/a"
    assert table["done"].startswith("4 epochs of 4")


def test_what_is_nothing_is_told(tmp_path: Path) -> None:
    result = look(tmp_path)
    assert result.exit_code == 1 and "has neither shards (index.json) nor folders" in told(result)
    (tmp_path / "index.json").write_text("{}")
    result = look(tmp_path)
    assert result.exit_code == 1 and "is no index that streaming can read" in told(result)
    begun = tmp_path / "begun"
    root = image_folder(tmp_path / "in", "train", 10)
    converted("folder", root, "--out", begun)
    (begun / "index.json").unlink()
    result = look(begun)
    assert result.exit_code == 1 and "is a conversion that is not finished (1 parts" in told(result)
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text("{")
    result = look(run)
    assert result.exit_code == 1 and "recipe.json: damaged" in told(result)
