# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``tools/compare.py`` as a command: it runs, goes on after a kill, and says what it found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from compare import PRESETS, main
from comparison.conditions import CONDITIONS
from comparison.methods import EGRESS, METHODS
from comparison.runs import recipe_file
from comparison.sources import SOURCES
from filelock import FileLock

COMPARE = Path(__file__).parents[2] / "tools" / "compare.py"


# Tables are as wide as a terminal of these columns.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def command(folder: Path, *arguments: str) -> list[str]:
    return ["--folder", f"{folder / 'work'}", "--out", f"{folder / 'results.jsonl'}", *arguments]


def compare(folder: Path, *arguments: str) -> Result:
    return CliRunner(env=ENVIRONMENT).invoke(main, command(folder, *arguments))


def rows(folder: Path) -> list[dict[str, Any]]:
    results = folder / "results.jsonl"
    return [json.loads(line) for line in results.read_text().splitlines()]


def test_a_comparison_that_is_killed_goes_on(tmp_path: Path) -> None:
    what = ["--conditions", "noise40", "--selectors", "short,random,data_agent", "--seeds", "1"]
    first = subprocess.Popen(
        [sys.executable, COMPARE, *command(tmp_path, *what)],
        env=os.environ | ENVIRONMENT,
        start_new_session=True,
    )
    results = tmp_path / "results.jsonl"
    while not (results.exists() and results.read_text()):
        assert first.poll() is None
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = rows(tmp_path)
    done = compare(tmp_path, *what, "--jobs", "1")
    assert done.exit_code == 0, done.output
    after = rows(tmp_path)
    assert after[: len(before)] == before and len(before) < len(after)
    keys = {(row["selector"], row["seed"]) for row in after}
    assert keys == {(selector, 0) for selector in ("short", "random", "data_agent")}
    assert len(after) == 3
    for row in after:
        assert 0.7 < row["accuracy"] <= 1
        assert row["wrong"] == round(0.4 * 1437) / 1437
        assert abs(row["share"] - 6.5 / 12) < 0.01 <= row["overhead"]
    summary = json.loads(done.output.splitlines()[-1])
    assert summary["rows"] == 3
    entry = summary["data_agent"]["digits 0.5 noise40"]
    of = {row["selector"]: 100 * row["accuracy"] for row in after}
    assert abs(entry["to_random"][0] - (of["data_agent"] - of["random"])) < 1e-2
    table = (tmp_path / "results.md").read_text()
    assert "| data_agent |" in table and "--conditions noise40 --selectors" in table

    with FileLock(tmp_path / "work" / ".lock"):
        second = compare(tmp_path, *what)
    assert second.exit_code == 1 and "another compare.py works in" in second.output
    again = compare(tmp_path, *what)
    assert again.exit_code == 0 and rows(tmp_path) == after

    changed = [{**row, "recipe": "of other settings"} for row in after]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed))
    refused = compare(tmp_path, *what)
    assert refused.exit_code == 1 and "made with other settings: give another" in refused.output


def test_presets_name_what_there_is() -> None:
    for preset in PRESETS.values():
        assert set(preset.sources) <= set(SOURCES) and set(preset.conditions) <= set(CONDITIONS)
        assert set(preset.selectors) <= set(METHODS)
        for source in preset.sources:
            assert recipe_file(source).exists()
    for name in ("quick", "full"):
        assert PRESETS[name].conditions == tuple(CONDITIONS)
    # Of digits there is one shard.
    assert {name for name in METHODS if name not in PRESETS["quick"].selectors} == set(EGRESS)


def test_a_preset_gives_its_conditions(tmp_path: Path) -> None:
    done = compare(tmp_path, "--preset", "families", "--sources", "digits", "--prepare")
    assert done.exit_code == 0, done.output
    written = {path.name for path in (tmp_path / "work" / "data" / "digits").iterdir()}
    conditions = ("clean", "noise40", "asymmetric40", "tail50")
    assert written == {"eval", *(f"{c}-seed{seed}" for c in conditions for seed in range(3))}


def test_mistakes_are_told(tmp_path: Path) -> None:
    for arguments, message in [
        (["--conditions", "dirty"], "'dirty' is not one of clean, "),
        (["--ratios", "0.5,2"], "a ratio is in (0, 1]"),
        (["--table"], "has no results yet"),
        (["--sources", "fashion", "--fashion", str(tmp_path)], "dataset-fashion-mnist"),
    ]:
        refused = compare(tmp_path, *arguments)
        assert refused.exit_code in (1, 2) and message in " ".join(refused.output.split())


def test_a_line_that_is_no_result_is_told(tmp_path: Path) -> None:
    for line in ["garbage{", '{"a": 1}', "[1]"]:
        (tmp_path / "results.jsonl").write_text(f"{line}\n")
        told = compare(tmp_path, "--table")
        assert told.exit_code == 1 and isinstance(told.exception, SystemExit)
        assert "results.jsonl, line 1 is no result" in told.output.replace("\n", "")


def test_results_do_not_go_into_a_table(tmp_path: Path) -> None:
    table = tmp_path / "results.md"
    table.write_text("mine")
    told = CliRunner(env=ENVIRONMENT).invoke(main, ["--out", str(table), "--table"])
    assert told.exit_code == 2 and "should end in .jsonl" in told.output
    assert table.read_text() == "mine"


def test_what_was_prepared_is_told(tmp_path: Path) -> None:
    for _ in range(2):  # it is there, whether it was written now or before
        done = compare(tmp_path, "--conditions", "clean,noise40", "--seeds", "1", "--prepare")
        assert done.exit_code == 0, done.output
        assert done.stdout == f"2 data sets are in {tmp_path / 'work' / 'data'}\n"
    assert [path.name for path in (tmp_path / "work").glob("[!.]*")] == ["data"]
    assert not (tmp_path / "results.jsonl").exists()
