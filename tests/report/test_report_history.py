# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A run folder survives kills and resumes, and is never taken from another run by accident."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_rows import write_rows

from composer_dataagent.report import History, read_run


def epochs_by(run_dir: Path) -> list[tuple[int, str]]:
    return [(row["epoch"], row["by"]) for row in read_run(run_dir).rows]


def add_ledger_and_samples(history: History) -> None:
    history.write_ledger({"visits": np.arange(3)})
    history.write_samples({1: {"x": np.ones((8, 8))}, 2: {"text": "two"}})


def test_written_is_read(tmp_path: Path) -> None:
    history = History(str(tmp_path / "run"))
    history.begin({"run_name": "first", "ratio": 0.5, "class_names": None}, epoch=0)
    rows: list[dict[str, Any]] = [
        {"epoch": 0, "ppo": {}, "action_histogram": [1, 2], "metrics": {"eval/Accuracy": 0.5}},
        {"epoch": 1, "ppo": {"entropy": -0.5}, "action_histogram": None},
    ]
    for row in rows:
        history.append(row)
    columns = {"loss": np.array([0.5, np.nan], np.float32), "visits": np.array([1, 0], np.int16)}
    history.write_ledger(columns)
    run = read_run(str(tmp_path / "run"))
    assert run.meta == {"run_name": "first", "ratio": 0.5, "class_names": None}
    assert run.rows == rows and run.path == tmp_path / "run" and run.samples == {}
    assert run.ledger.keys() == columns.keys()
    for name, column in columns.items():
        np.testing.assert_array_equal(run.ledger[name], column, strict=True)


def test_the_ledger_is_replaced(tmp_path: Path) -> None:
    history = write_rows(tmp_path, 1)
    for value in (1, 2):
        history.write_ledger({"visits": np.full(3, value)})
    assert read_run(tmp_path).ledger["visits"].tolist() == [2, 2, 2]
    assert not list(tmp_path.glob("*.tmp"))


def test_files_are_strict_json_whatever_numbers_occur(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.begin({"run_name": "first", "ratio": np.float32(0.5)}, epoch=0)
    history.append(
        {
            "epoch": np.int64(0),
            "loss": float("nan"),
            "deep": {
                "lr": [np.float64("inf"), np.float32("-inf"), 1.5],
                3: np.array([1.0, np.nan]),
            },
            "flag": np.bool_(True),
        }
    )

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    (line,) = (tmp_path / "history.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=refuse) == {
        "epoch": 0,
        "loss": None,
        "deep": {"lr": [None, None, 1.5], "3": [1.0, None]},
        "flag": True,
    }
    assert read_run(tmp_path).meta["ratio"] == 0.5


# ------------------------------------------------------------------ whose folder is it?


SETTINGS = {"run_name": "first", "selector": "data_agent", "ratio": 0.5, "num_epochs": None}


@pytest.mark.parametrize("epoch", [0, 1, 3, 4])
def test_a_resumed_run_drops_the_rows_that_it_writes_again(tmp_path: Path, epoch: int) -> None:
    write_rows(tmp_path, 4)
    History(tmp_path).begin({"run_name": "first", "resumed": True}, epoch, resumed=True)
    assert epochs_by(tmp_path) == [(e, "first") for e in range(epoch)]
    assert read_run(tmp_path).meta["resumed"] is True
    write_rows(tmp_path, 6, begin_at=epoch)
    assert epochs_by(tmp_path) == [(e, "first") for e in range(6)]


def test_the_same_run_that_starts_again_writes_its_rows_again(tmp_path: Path) -> None:
    """As after a kill before the first checkpoint, when there is nothing to resume from."""
    add_ledger_and_samples(write_rows(tmp_path, 2))
    history = write_rows(tmp_path, 2, begin_at=1)  # resumed: the others stay
    assert read_run(tmp_path).ledger and read_run(tmp_path).samples
    history = write_rows(tmp_path, 0)
    run = read_run(tmp_path)
    assert run.rows == [] and run.ledger == {} and run.samples == {}
    history.append({"epoch": 0, "by": "again"})
    assert epochs_by(tmp_path) == [(0, "again")]


def test_settings_are_compared_as_they_are_stored(tmp_path: Path) -> None:
    for _ in range(2):
        history = History(tmp_path)
        meta = {**SETTINGS, "ratio": np.float64(0.5), "class_names": ("a", "b"), "loss": np.nan}
        history.begin(meta, epoch=0)
        history.append({"epoch": 0})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"selector": "random"}, "selector='data_agent', now 'random'"),
        ({"ratio": 0.25}, "ratio=0.5, now 0.25"),
        ({"num_epochs": 3}, "num_epochs=None, now 3"),
        ({"state": "features"}, "state=None, now 'features'"),
    ],
)
def test_other_settings_under_the_same_name_do_not_erase_rows(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    history = History(tmp_path)
    history.begin(SETTINGS, epoch=0)
    history.append({"epoch": 0, "by": "first"})
    add_ledger_and_samples(history)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError) as caught:
        History(tmp_path).begin({**SETTINGS, **change}, epoch=0)
    for part in (str(tmp_path), "same name", said, "another run_dir", "overwrite=True"):
        assert part in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    History(tmp_path).begin(
        {**SETTINGS, **change}, epoch=1, resumed=True
    )  # resumed, with what it has now
    assert epochs_by(tmp_path) == [(0, "first")]
    History(tmp_path, overwrite=True).begin(SETTINGS, epoch=0)
    run = read_run(tmp_path)
    assert run.rows == [] and run.ledger == {} and run.samples == {}


def test_data_may_be_fetched_in_another_way_when_a_run_starts_again(tmp_path: Path) -> None:
    """After a kill before the first checkpoint."""
    ways = ({}, {"fetch": "samples", "costs": {"dollars_per_gb": 0.05}}, {"costs": {"latency": 1}})
    for way in ways:
        history = History(tmp_path)
        history.begin({**SETTINGS, **way}, epoch=0)
        history.append({"epoch": 0})
        assert {key: read_run(tmp_path).meta.get(key) for key in way} == way


def test_settings_may_change_while_there_are_no_rows(tmp_path: Path) -> None:
    for ratio in (0.5, 0.25):
        History(tmp_path).begin({**SETTINGS, "ratio": ratio}, epoch=0)
    assert read_run(tmp_path).meta["ratio"] == 0.25


def test_another_run_takes_over_a_folder_without_rows(tmp_path: Path) -> None:
    write_rows(tmp_path, 0, "first")
    write_rows(tmp_path, 2, "second")
    assert epochs_by(tmp_path) == [(0, "second"), (1, "second")]


def test_a_checkpoint_goes_on_under_a_new_name(tmp_path: Path) -> None:
    write_rows(tmp_path, 2, "first")
    write_rows(tmp_path, 4, "second", begin_at=2)
    assert epochs_by(tmp_path) == [(0, "first"), (1, "first"), (2, "second"), (3, "second")]
    assert read_run(tmp_path).meta["run_name"] == "second"


@pytest.mark.parametrize("begin_at", [0, 1, 3], ids="begin_at={}".format)
def test_another_run_with_rows_is_not_overwritten(tmp_path: Path, begin_at: int) -> None:
    run_dir = tmp_path / "run"
    add_ledger_and_samples(write_rows(run_dir, 2, "first"))
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError) as caught:
        write_rows(run_dir, 4, "second", begin_at=begin_at)
    for part in (str(run_dir), "'first'", "another run_dir", "overwrite=True"):
        assert part in str(caught.value)
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


def test_overwrite_removes_everything_of_the_other_run(tmp_path: Path) -> None:
    add_ledger_and_samples(write_rows(tmp_path, 3, "first"))
    (tmp_path / "samples" / "mine.png").write_bytes(b"the user's own")
    write_rows(tmp_path, 1, "second", overwrite=True)
    run = read_run(tmp_path)
    assert epochs_by(tmp_path) == [(0, "second")]
    assert run.meta["run_name"] == "second" and run.ledger == {} and run.samples == {}
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["mine.png"]


def test_overwrite_does_not_drop_what_a_resumed_run_had_written(tmp_path: Path) -> None:
    write_rows(tmp_path, 3, overwrite=True)
    write_rows(tmp_path, 4, begin_at=2, overwrite=True)
    assert epochs_by(tmp_path) == [(e, "first") for e in range(4)]


def test_a_damaged_history_stops_a_run_unless_it_may_overwrite(tmp_path: Path) -> None:
    write_rows(tmp_path, 2)
    (tmp_path / "history.jsonl").write_text('{"epoch": 0}\n{"epo\n')
    with pytest.raises(ValueError, match=r"history\.jsonl, line 2"):
        write_rows(tmp_path, 2)
    write_rows(tmp_path, 1, "second", overwrite=True)
    assert epochs_by(tmp_path) == [(0, "second")]


@pytest.mark.parametrize("inside", ["", "deeper/still"])
def test_a_folder_that_cannot_be_written(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"run_dir .*file.* cannot be written.*another run_dir"):
        write_rows(tmp_path / "file" / inside, 1)


# ------------------------------------------------------------------ kills


def test_a_kill_at_any_byte_of_the_last_line(tmp_path: Path) -> None:
    write_rows(tmp_path, 3)
    file = tmp_path / "history.jsonl"
    whole = file.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for cut in range(start, len(whole) + 1):
        file.write_bytes(whole[:cut])
        complete = 3 if cut >= len(whole) - 1 else 2
        assert [row["epoch"] for row in read_run(tmp_path).rows] == list(range(complete))
        write_rows(tmp_path, 4, begin_at=2)
        assert epochs_by(tmp_path) == [(e, "first") for e in range(4)]
        assert file.read_bytes().startswith(whole[:start])


ENDLESS = """
import sys
import numpy as np
from composer_dataagent.report import History

history = History(sys.argv[1])
history.begin({"run_name": "first", "selector": "data_agent"}, epoch=0)
for epoch in range(1_000_000):
    history.append({"epoch": epoch, "by": "first", "long": list(range(20_000))})
    history.write_ledger({"visits": np.full(100_000, epoch)})
"""


def test_a_killed_process_leaves_a_history_that_can_be_read_and_resumed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)])
    file = tmp_path / "history.jsonl"
    while not file.exists() or file.read_bytes().count(b"\n") < 5:
        assert process.poll() is None, "the writer ended by itself"
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    run = read_run(tmp_path)
    assert [row["epoch"] for row in run.rows] == list(range(len(run.rows)))
    visits = set(run.ledger["visits"].tolist())
    assert len(visits) == 1 and visits <= {len(run.rows) - 2, len(run.rows) - 1}
    write_rows(tmp_path, 6, begin_at=3)
    assert epochs_by(tmp_path) == [(e, "first") for e in range(6)]


def test_a_start_with_another_drawn_seed_is_still_the_same_run(tmp_path: Path) -> None:
    meta = {"run_name": "a", "ratio": 0.5}
    History(tmp_path).begin(meta | {"trainer_seed": 1}, epoch=0)
    History(tmp_path).append({"epoch": 0})
    History(tmp_path).begin(meta | {"trainer_seed": 2}, epoch=0)
    assert read_run(tmp_path).rows == []
