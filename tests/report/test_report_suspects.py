# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The list of probably mislabelled samples says what the ledger knows, safely."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from synthetic_run import write_run

from composer_dataagent.cli import main
from composer_dataagent.report import Run, read_run
from composer_dataagent.report.examples import suspects
from composer_dataagent.report.suspects import COLUMNS, list_suspects, write_suspects


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return write_run(tmp_path, epochs=3)


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["suspects", *map(str, arguments)])


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_list_has_all_that_is_flagged(run: Run) -> None:
    result = invoke(run.path)
    assert result.exit_code == 0, result.output
    rows = read(run.path / "suspects.csv")
    assert tuple(rows[0]) == COLUMNS
    ids = [int(row["sample_id"]) for row in rows]
    assert ids == suspects(run.ledger).tolist() and len(ids) > 10
    assert [int(row["rank"]) for row in rows] == list(range(1, len(ids) + 1))
    for row, i in zip(rows, ids, strict=True):
        assert int(row["label"]) == run.ledger["label"][i]
        assert row["label_name"] == f"digit {row['label']}"
        assert int(row["predicted"]) == run.ledger["predicted"][i] != run.ledger["label"][i]
        assert row["predicted_name"] == f"digit {row['predicted']}"
        assert float(row["label_probability"]) == pytest.approx(
            np.exp(-run.ledger["loss"][i]), rel=1e-3
        )
        assert float(row["predicted_probability"]) == pytest.approx(
            run.ledger["max_prob"][i], rel=1e-3
        )
        assert int(row["visits"]) == run.ledger["visits"][i]
        assert row["agreement"] == ""  # the synthetic ledger does not tell
    share = len(ids) / len(run.ledger["label"])
    assert f"{len(ids)} of 400 labelled samples ({100 * share:.1f} %)" in result.output
    assert f"… and {len(ids) - 10} more" in result.output
    assert str(run.path / "suspects.csv") in result.output.replace("\n", "")


def test_the_first_ones_in_another_file(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "first.csv"
    assert invoke(run.path, "--top", 3, "--out", out).exit_code == 0
    assert [int(row["sample_id"]) for row in read(out)] == suspects(run.ledger)[:3].tolist()
    assert not (run.path / "suspects.csv").exists()


def test_a_file_that_somebody_worked_in_is_kept(run: Run) -> None:
    out = run.path / "suspects.csv"
    for _ in range(2):  # what would be written is there already: no reason to refuse
        assert invoke(run.path).exit_code == 0
    before = out.read_text() + "checked\n"
    out.write_text(before)
    result = invoke(run.path)
    assert result.exit_code == 1 and "--overwrite" in result.output
    assert out.read_text() == before
    assert invoke(run.path, "--overwrite").exit_code == 0
    assert "checked" not in out.read_text()


def test_other_files_of_a_run_are_not_written_over(run: Run) -> None:
    before = (run.path / "ledger.npz").read_bytes()
    result = invoke(run.path, "--out", run.path / "ledger.npz", "--overwrite")
    assert result.exit_code == 1 and "must end in .csv" in result.output
    assert (run.path / "ledger.npz").read_bytes() == before


def test_a_ledger_that_is_not_whole(run: Run) -> None:
    columns = dict(run.ledger)
    for damaged in ({"foo": np.zeros(400)}, {k: v[:100] for k, v in columns.items()}):
        np.savez(run.path / "ledger.npz", **damaged)  # type: ignore[arg-type]
        result = invoke(run.path)
        assert result.exit_code == 1 and "damaged ledger" in result.output


def test_where_none_is_doubted_the_list_is_empty(run: Run) -> None:
    run.ledger["flagged"][:] = False
    assert list_suspects(run) == []
    assert read(write_suspects([], run.path / "none.csv")) == []


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_names_are_no_formulas(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path, epochs=2, classes=2, class_names=[name, 'a,"b"\n犬\ud800'])
    rows = read(write_suspects(list_suspects(run), tmp_path / "s.csv"))
    assert {row["label_name"] for row in rows} == {f"'{name}", 'a,"b"\n犬?'}


def test_what_has_no_suspects_is_told(tmp_path: Path) -> None:
    run = write_run(tmp_path, epochs=2)
    (run.path / "ledger.npz").unlink()
    result = invoke(run.path)
    assert result.exit_code == 1 and "no ledger yet" in result.output
    columns = {name: np.zeros(400) for name in ("loss", "max_prob")}
    columns |= {"label": np.full(400, -1), "flagged": np.zeros(400, bool)}
    np.savez(run.path / "ledger.npz", **columns)  # type: ignore[arg-type]
    result = invoke(run.path)
    assert result.exit_code == 1 and "have no labels" in result.output
    result = invoke(tmp_path / "nowhere")
    assert result.exit_code == 1 and "There is no run folder" in result.output


def test_a_ledger_with_numbers_that_are_none(tmp_path: Path) -> None:
    run = write_run(tmp_path, epochs=2)
    columns = dict(read_run(run.path).ledger)
    columns["loss"] = np.full(400, -np.inf)
    columns["max_prob"] = np.full(400, np.nan)
    np.savez(run.path / "ledger.npz", **columns)  # type: ignore[arg-type]
    assert invoke(run.path).exit_code == 0
    rows = read(run.path / "suspects.csv")
    assert {row["label_probability"] for row in rows} == {"1"}
    assert {row["predicted_probability"] for row in rows} == {""}
