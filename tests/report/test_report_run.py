# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What cannot be read gets one error that names the file, the line, or what to do."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from report_rows import write_rows
from synthetic_run import write_run

from composer_dataagent.report import read_run, summarise, write_page


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run folder.*nowhere"):
        read_run(tmp_path / "nowhere")


def test_a_folder_without_history(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"DataAgent\(run_dir=.*composer-dataagent train"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        '{"epoch": 1, "lo',
        "[1]",
        "null",
        '{"loss": 1.0}',
        "\x00\x00",
        '{"epoch": "1"}',
        '{"epoch": true}',
        '{"epoch": 0}',
        '{"epoch": 1, "metrics": [0.5]}',
        '{"epoch": 1, "ppo": "none"}',
        '{"epoch": 1, "class_total": 3}',
        '{"epoch": 1, "action_histogram": {"0": 1}}',
    ],
)
def test_a_damaged_row(tmp_path: Path, line: str) -> None:
    write_rows(tmp_path, 1)
    with open(tmp_path / "history.jsonl", "a") as file:
        file.write(line + "\n" + '{"epoch": 2}\n')
    where = re.escape(str(tmp_path / "history.jsonl")) + ", line 2"
    with pytest.raises(ValueError, match=where):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("meta.json", "{"),
        ("meta.json", "7"),
        ("recipe.json", "[]"),
        ("samples.json", ""),
        ("ledger.npz", "not a zip"),
    ],
)
def test_other_damaged_files(tmp_path: Path, name: str, content: str) -> None:
    write_rows(tmp_path, 1)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=re.escape(name) + ".*damaged"):
        read_run(tmp_path)


def test_a_ledger_runs_no_code(tmp_path: Path) -> None:
    write_rows(tmp_path, 1)
    np.savez(tmp_path / "ledger.npz", visits=np.array([print], dtype=object))
    with pytest.raises(ValueError, match=r"ledger\.npz.*damaged"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"visits": np.zeros(3, int), "loss": np.zeros(2)}, "columns differ in length"),
        ({"visits": np.zeros((3, 1), int)}, r"visits has int64\[3, 1\]"),
        ({"visits": np.full(3, np.nan)}, "visits has float64"),
        ({"loss": np.array(["a", "b"])}, "loss has <U1"),
    ],
)
def test_a_ledger_of_something_else(
    tmp_path: Path, columns: dict[str, NDArray], reason: str
) -> None:
    write_rows(tmp_path, 1)
    np.savez(tmp_path / "ledger.npz", **columns)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"ledger\.npz: damaged, {reason}.*Remove it"):
        read_run(tmp_path)


def test_a_ledger_that_is_a_bare_array(tmp_path: Path) -> None:
    write_rows(tmp_path, 1)
    with open(tmp_path / "ledger.npz", "wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(ValueError, match=r"ledger\.npz: damaged, not an archive.*Remove it"):
        read_run(tmp_path)


def test_samples_without_an_id_are_passed_over(tmp_path: Path) -> None:
    write_rows(tmp_path, 1)
    texts = {"../3": "a", "-1": "b", "1.5": "c", "\N{SUPERSCRIPT TWO}": "d", "": "e", "7": "f"}
    (tmp_path / "samples.json").write_text(json.dumps(texts))
    assert read_run(tmp_path).samples == {7: {"png": None, "text": "f"}}


ODD = ["high", [1], {"a": 1}, True, 1e999, -(10**400)]


@pytest.mark.parametrize("value", ODD, ids=lambda value: f"{value!r:.8}")
def test_a_value_that_is_not_a_number_is_unknown(tmp_path: Path, value: Any) -> None:
    run = write_run(tmp_path, epochs=3)
    *lines, last = (run.path / "history.jsonl").read_text().splitlines()
    odd = {
        name: dict.fromkeys(old, value) if isinstance(old, dict) else value
        for name, old in json.loads(last).items()
    }
    row = odd | {"epoch": 2, "action_histogram": [value] * 20}
    lines.append(json.dumps(row))
    (run.path / "history.jsonl").write_text("\n".join(lines) + "\n")
    run = read_run(run.path)
    (summary,) = summarise([run])
    assert summary["accuracy"] is None and summary["samples"] is None
    write_page([run], tmp_path / "page.html")


@pytest.mark.parametrize("names", ["cat", 7, {"0": "cat"}, [None, ["cat"]]], ids=repr)
def test_class_names_of_another_kind(tmp_path: Path, names: Any) -> None:
    run = write_run(tmp_path, epochs=2, class_names=names, settings=names)
    write_page([run], tmp_path / "page.html")


def test_a_history_without_rows(tmp_path: Path) -> None:
    write_rows(tmp_path, 0)
    run = read_run(tmp_path)
    assert run.rows == [] and run.ledger == {} and run.samples == {}
    with pytest.raises(FrozenInstanceError):
        run.rows = []  # type: ignore[misc]
