# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What cannot be read gets one error that names the file, the line, or what to do."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from report_rows import write_rows

from composer_dataagent.report import read_run


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run folder.*nowhere"):
        read_run(tmp_path / "nowhere")


def test_a_folder_without_history(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"DataAgent\(run_dir=.*composer-dataagent train"):
        read_run(tmp_path)


@pytest.mark.parametrize("line", ['{"epoch": 1, "lo', "[1]", "null", '{"loss": 1.0}', "\x00\x00"])
def test_a_damaged_row(tmp_path: Path, line: str) -> None:
    write_rows(tmp_path, 1)
    with open(tmp_path / "history.jsonl", "a") as file:
        file.write(line + "\n" + '{"epoch": 2}\n')
    where = re.escape(str(tmp_path / "history.jsonl")) + ", line 2"
    with pytest.raises(ValueError, match=where):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("meta.json", "{"), ("meta.json", "7"), ("samples.json", ""), ("ledger.npz", "not a zip")],
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


def test_a_history_without_rows(tmp_path: Path) -> None:
    write_rows(tmp_path, 0)
    run = read_run(tmp_path)
    assert run.rows == [] and run.ledger == {} and run.samples == {}
    with pytest.raises(FrozenInstanceError):
        run.rows = []  # type: ignore[misc]
