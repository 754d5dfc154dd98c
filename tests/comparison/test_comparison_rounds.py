# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The comparison of rounds: what it costs to look, and tables of what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import compare_rounds
import pytest
from click.testing import CliRunner

from composer_dataagent import DataAgent


def _show(results: Path, folder: Path, *more: str) -> Any:
    places = ["--folder", str(folder), "--out", str(results)]
    return CliRunner().invoke(compare_rounds.main, [*places, *more], env={"COLUMNS": "200"})


@pytest.mark.parametrize("ratio", [0.1, 0.9, 1.0])
def test_every_way_is_one_that_an_agent_takes(ratio: float) -> None:
    for arguments in compare_rounds.ways(ratio).values():
        DataAgent(**arguments)


def test_what_is_measured_is_shown_and_not_made_again(tmp_path: Path) -> None:
    before = compare_rounds.RESULTS.read_bytes()
    shown = _show(compare_rounds.RESULTS, tmp_path, "--seeds", "2", "--ratios", "0.1,0.3")
    assert shown.exit_code == 0, shown.output
    assert compare_rounds.RESULTS.read_bytes() == before and not (tmp_path / "runs").exists()
    rows = json.loads(shown.stdout.splitlines()[-1])["rows"]
    assert len(rows) == 2 * (1 + 2 * 8)
    (line,) = (
        row
        for row in shown.stdout.split("ratio 0.3")[1].splitlines()
        if row.strip().startswith("random, cost of look")
    )
    assert "2.371" in line and "67%" in line and "-0.198 [-0.209, -0.188]" in line


def test_damaged_results_are_named(tmp_path: Path) -> None:
    results = tmp_path / "rounds.jsonl"
    results.write_text('{"source": "library"}\n')
    shown = _show(results, tmp_path)
    assert shown.exit_code == 1 and "rounds.jsonl, line 1 is no result" in shown.output


def test_results_of_other_settings_are_not_mixed_in(tmp_path: Path) -> None:
    results = tmp_path / "rounds.jsonl"
    rows = [json.loads(line) for line in compare_rounds.RESULTS.read_text().splitlines()]
    assert all(row["version"] for row in rows)
    changed = [{**row, "recipe": "of other settings"} for row in rows]
    results.write_text("".join(json.dumps(row) + "\n" for row in changed))
    shown = _show(results, tmp_path, "--seeds", "2")
    assert shown.exit_code == 1
    assert "has library-clean-1.0-full-0, made with other settings" in shown.output
