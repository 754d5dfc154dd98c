# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``tools/convert_text.py`` over Hugging Face data sets: the shards that JSON lines would give."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conversions import END, convert, converted, lines_file, samples

from composer_dataagent.recipes.tokens import SequenceClassification

ROWS = [{"text": f"Text {i}: " + "ab"[i % 2] * i, "stars": i % 3, "other": [i]} for i in range(700)]


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


def saved(folder: Path) -> Path:
    """One as many are: some rows chosen, formatted for torch, several files."""
    chosen = datasets.Dataset.from_list([{"text": "no", "stars": 0, "other": [0]}, *ROWS])
    chosen = chosen.select(range(1, 701)).with_format("torch")
    chosen.save_to_disk(str(folder), num_shards=3)
    return folder


def table(tmp_path: Path, kind: str) -> tuple[list[object], Path]:
    """Arguments for a table with the rows, and the path that messages name."""
    if kind == "folder":
        return [saved(tmp_path / "set")], tmp_path / "set"
    if kind == "split":
        both = datasets.DatasetDict()
        both["train"], both["test"] = map(datasets.Dataset.from_list, (ROWS, []))
        both.save_to_disk(str(tmp_path / "sets"))
        return [tmp_path / "sets", "--split", "train"], tmp_path / "sets" / "train"
    if kind == "arrow":
        datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "set"))
        (path,) = (tmp_path / "set").glob("*.arrow")
        return [path], path
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=300)
    return [path], path


@pytest.mark.parametrize("kind", ["folder", "split", "arrow", "parquet"])
def test_rows_are_what_lines_would_be(tmp_path: Path, kind: str) -> None:
    given, _ = table(tmp_path, kind)
    lines = lines_file(tmp_path / "rows.jsonl", ROWS)
    for name, options in {"packed": ["--length", 64], "padded": ["--pad"]}.items():
        out = tmp_path / name
        told = converted(*given, "--out", out, *options, "--part-mb", 0.02, "--jobs", 1)
        assert told["documents"] == 700
        if name == "padded":  # whatever the parts
            converted(lines, "--out", tmp_path / "lines", *options)
            rows, expected = samples(out), samples(tmp_path / "lines")
            assert len(list(out.glob("part_?????"))) > 1
            assert [r["tokens"].tolist() for r in rows] == [r["tokens"].tolist() for r in expected]


def test_groups_of_rows_are_decoded_once_where_a_part_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.parquet"
    rows = [{"text": random.Random(i).randbytes(40).hex()} for i in range(1200)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=90)
    read: list[list[int]] = []
    real = pq.ParquetFile.iter_batches

    def counted(self: Any, *arguments: Any, row_groups: list[int], **others: Any) -> Any:
        read.append(row_groups)
        return real(self, *arguments, row_groups=row_groups, **others)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    arguments = ["--pad", "--part-mb", 0.03, "--jobs", 1]
    converted(path, "--out", tmp_path / "out", *arguments)
    assert read == [[i] for i in range(14)]
    texts = [bytes(row["tokens"][:-1].tolist()).decode() for row in samples(tmp_path / "out")]
    assert texts == [row["text"] for row in rows]


def test_rows_with_a_class(tmp_path: Path) -> None:
    given, _ = table(tmp_path, "folder")
    told = converted(*given, "--out", tmp_path / "out", "--label-key", "stars", "--length", 64)
    assert told["samples"] == 700 and told["documents_cut"] == sum(
        len(row["text"]) + 2 > 64 for row in ROWS
    )
    dataset = SequenceClassification(local=str(tmp_path / "out"), length=64, batch_size=1)
    assert [dataset[i]["labels"] for i in range(700)] == [row["stars"] for row in ROWS]
    short, long = dataset[2], dataset[699]
    text = [END, *b"Text 2: aa", END]
    assert short["input_ids"].tolist() == text + [0] * (64 - len(text))
    assert short["attention_mask"].sum() == len(text)
    assert long["input_ids"].tolist() == [END, *ROWS[699]["text"].encode()[:62], END]


def test_prompts_and_responses_in_columns(tmp_path: Path) -> None:
    pairs = [{"q": "What?", "a": "That."}, {"q": "Who?", "a": "They."}]
    datasets.Dataset.from_list(pairs).save_to_disk(str(tmp_path / "set"))
    keys = ["--prompt-key", "q", "--response-key", "a"]
    converted(tmp_path / "set", "--out", tmp_path / "out", *keys)
    assert [row["prompt"] for row in samples(tmp_path / "out")] == [5, 4]


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("folder", ["--text-key", "body"], "has no column 'body'; it has ['other', 'stars', 'text"),
        ("folder", ["--split", "train"], "has no splits: leave --split out"),
        ("folder", ["--label-key", "text"], "row 0: 'text' should be the number of a class"),
        ("parquet", ["--text-key", "stars"], "row 0: 'stars' should be a text but is a int 0"),
        ("parquet", ["--label-key", "stars", "--response-key", "text"], "--label-key is about who"),
    ],
)
def test_what_does_not_fit_is_told(
    tmp_path: Path, kind: str, arguments: list[str], message: str
) -> None:
    given, path = table(tmp_path, kind)
    result = convert(*given, "--out", tmp_path / "out", *arguments)
    assert result.exit_code in (1, 2)
    told = " ".join(result.output.split())
    assert message in told and (str(path) in told or "--label-key is" in told)


def test_which_split_is_asked_for(tmp_path: Path) -> None:
    (_, path) = table(tmp_path, "split")
    result = convert(path.parent, "--out", tmp_path / "out")
    assert "has the splits train, test: give --split" in result.output.replace("\n", " ")
    result = convert(path.parent, "--out", tmp_path / "out", "--split", "dev")
    assert "--split 'dev' is none of them" in result.output.replace("\n", " ")


def test_what_is_no_table_is_told(tmp_path: Path) -> None:
    result = convert(tmp_path, "--out", tmp_path / "out")
    assert "is no data set that Hugging Face's save_to_disk wrote" in " ".join(
        result.output.split()
    )
    (tmp_path / "a.parquet").write_text("no")
    result = convert(tmp_path / "a.parquet", "--out", tmp_path / "out")
    assert result.exit_code == 1 and "a.parquet cannot be read" in result.output.replace("\n", " ")


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = table(tmp_path, "folder")
    monkeypatch.setitem(sys.modules, "datasets", None)  # as Python has what it cannot import
    result = convert(path, "--out", tmp_path / "out")
    assert "pip install 'composer-dataagent[text]'" in result.output.replace("\n", " ")
