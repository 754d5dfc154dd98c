# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a reader is told of whether a run goes on is what can be known, and no more."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from parsed_page import ParsedPage
from report_rows import make_run, write_rows
from run_writer import run_writer

from composer_dataagent.report import History, Run, read_run, write_page
from composer_dataagent.report.hold import LOCK
from composer_dataagent.report.pulse import PROGRESS, STUCK_SECONDS
from composer_dataagent.report.run import look_again
from composer_dataagent.report.standing import is_over, states_of


def text_of(run: Run) -> str:
    (state,) = states_of([run])
    assert run.standing is not None and state.kind == run.standing.state
    return state.text


def begin(folder: Path, epochs: int = 0, of: int | None = 10) -> History:
    """A run of this process; it goes on as long as what is given is kept."""
    history = History(folder)
    history.begin({"run_name": "mine", "selector": "random", "num_epochs": of}, epoch=0)
    for epoch in range(epochs):
        history.append({"epoch": epoch, "epochs": epoch + 1.0})
    return history


def change(folder: Path, **facts: Any) -> Run:
    """The run as if its writer had told other facts."""
    told = json.loads((folder / PROGRESS).read_text())
    (folder / PROGRESS).write_text(json.dumps(told | facts))
    return read_run(folder)


def test_a_run_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    history = begin(tmp_path)
    run = read_run(tmp_path)
    assert text_of(run) == "running, epoch 1 of 10, no row yet" and not is_over(run)
    assert not history.beat_is_due  # it has just told
    history.append({"epoch": 0, "epochs": 1.0})
    history.beat(1.4)
    run = read_run(tmp_path)
    assert run.standing is not None and run.standing.epochs == 1.4 and run.standing.alive
    assert text_of(run).startswith("running, epoch 2 of 10, last row ")
    assert text_of(run).endswith(" s ago")
    history.end()
    run = read_run(tmp_path)
    assert states_of([run]) == [] and is_over(run)
    other = begin(tmp_path / "other")
    states = states_of([run, read_run(tmp_path / "other")])
    assert [state.text for state in states] == [
        "ended after 1 of 10 epochs",
        "running, epoch 1 of 10, no row yet",
    ]
    other.end()


def test_a_run_without_an_end_in_epochs(tmp_path: Path) -> None:
    history = begin(tmp_path, 2, of=None)
    assert text_of(read_run(tmp_path)).startswith("running, epoch 3, last row ")
    history.end()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_dies_is_missed_at_once(tmp_path: Path, end: signal.Signals) -> None:
    with run_writer(tmp_path, epochs=1) as process:
        run = read_run(tmp_path)
        assert text_of(run).startswith("running, epoch 2 of 10") and not is_over(run)
        process.send_signal(end)
        process.wait()
        run = look_again(run)
    assert is_over(run)
    assert text_of(run).startswith("stopped in epoch 2 of 10, last row ")
    assert "its process was killed or failed" in text_of(run)
    begin(tmp_path).end()  # the same run again
    assert states_of([read_run(tmp_path)]) == []


def test_silence(tmp_path: Path) -> None:
    history = begin(tmp_path, 3)
    now = time.time()
    # The process is there: it may be in a long evaluation.
    assert text_of(change(tmp_path, time=now - STUCK_SECONDS / 2)).startswith("running, epoch 4")
    run = change(tmp_path, time=now - 3 * STUCK_SECONDS, row_time=now - 7300)
    assert text_of(run) == (
        "in epoch 4 of 10, last row 2 h ago: its process is there, but gave no sign of life for "
        "30 min"
    )
    assert not is_over(run)
    # Another machine's locks are not ours to see.
    run = change(tmp_path, host="elsewhere", time=now - 30, row_time=now - 60)
    assert text_of(run).startswith("running, epoch 4 of 10, last row ")
    run = change(tmp_path, time=now - 300, row_time=None)
    assert text_of(run) == (
        "in epoch 4 of 10, no new row yet: no sign of life for 5 min. It was killed, or does "
        "something long between two batches"
    )
    assert not is_over(run)
    run = change(tmp_path, host=None, time=now + 3600)  # its clock goes before ours
    assert text_of(run).startswith("running")
    history.end()


@pytest.mark.parametrize("facts", [None, "", "{", "[1]", '"x"', "\x00"])
def test_a_folder_of_an_older_version_or_a_damaged_sign(tmp_path: Path, facts: str | None) -> None:
    begin(tmp_path, 3).end()
    (tmp_path / PROGRESS).unlink()
    if facts is not None:
        (tmp_path / PROGRESS).write_text(facts)
    os.utime(tmp_path / "history.jsonl", (time.time() - 7300, time.time() - 7300))
    run = read_run(tmp_path)
    told = "3 of 10 epochs done, last row 2 h ago; whether it goes on is not known"
    assert text_of(run) == told and not is_over(run)
    ended = look_again(replace(run, meta=run.meta | {"num_epochs": 3}))
    assert states_of([ended]) == [] and is_over(ended)


@pytest.mark.parametrize(
    "facts",
    [
        {"time": "x", "epochs": None, "row_time": [1]},
        {"time": None, "epochs": "many", "host": 3, "locked": "yes"},
        {"state": 7, "time": 1e400},
        {"locked": False},
    ],
)
def test_odd_signs_are_borne(tmp_path: Path, facts: dict[str, Any]) -> None:
    history = begin(tmp_path, 1)
    run = change(tmp_path, **facts)
    assert "epoch" in text_of(run) and "nan" not in text_of(run)
    history.end()


def test_a_lock_that_was_removed_says_nothing(tmp_path: Path) -> None:
    history = begin(tmp_path, 1)
    (tmp_path / LOCK).unlink()
    assert text_of(read_run(tmp_path)).startswith("running")
    history.end()


def test_the_last_evaluation_is_waited_for(tmp_path: Path) -> None:
    history = begin(tmp_path)
    history.append({"epoch": 0, "metrics": {"a": 1.0}})
    history.append({"epoch": 1})
    history.end()
    assert not is_over(read_run(tmp_path))
    history.amend({"metrics": {"a": 2.0}})
    assert is_over(read_run(tmp_path))
    history.append({"epoch": 2})
    del history  # its process is over
    assert is_over(read_run(tmp_path))


def test_a_second_fit_of_the_same_process(tmp_path: Path) -> None:
    history = begin(tmp_path, 1)
    history.end()
    history.begin({"run_name": "mine", "selector": "random", "num_epochs": 12}, 1, True)
    run = read_run(tmp_path)
    assert text_of(run) == "running, epoch 2 of 12, no new row yet"
    assert run.standing is not None and run.standing.alive
    history.end()


def test_a_page_says_how_far_runs_are_and_does_not_reload(tmp_path: Path) -> None:
    history = begin(tmp_path / "run", 2)
    page = ParsedPage(write_page([read_run(tmp_path / "run")], tmp_path / "page.html"))
    assert any(text.startswith("mine running, epoch 3 of 10") for text in page.texts["li"])
    assert any(text.startswith("As of 2") for text in page.texts["p"])
    assert not any(each.get("http-equiv") == "refresh" for each in page.all("meta"))
    history.end()
    page = ParsedPage(write_page([read_run(tmp_path / "run")], tmp_path / "page.html"))
    assert not any("running" in text or "As of" in text for text in page.texts["p"])


def test_runs_in_memory_and_whole_older_ones_are_over(tmp_path: Path) -> None:
    assert is_over(make_run("random", []))
    assert states_of([make_run("random", [])]) == []
    write_rows(tmp_path, 2).end()
    assert is_over(read_run(tmp_path))
