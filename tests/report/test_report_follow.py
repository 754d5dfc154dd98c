# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The page of a run that goes on is its page as it is now, and comes to an end with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from parsed_page import ParsedPage

from composer_dataagent.report import History
from composer_dataagent.report.follow import follow
from composer_dataagent.report.standing import State

SOON = 0.01
DYING = """
import sys, time
from composer_dataagent.report import History

history = History(sys.argv[1])
history.begin({"run_name": "mine", "selector": "random", "num_epochs": 4}, epoch=0)
print("told", flush=True)
time.sleep(3600)
"""


def begin(folder: Path, of: int = 4) -> History:
    history = History(folder)
    history.begin({"run_name": folder.name, "selector": "random", "num_epochs": of}, epoch=0)
    return history


def reloads(page: Path) -> bool:
    return any(each.get("http-equiv") == "refresh" for each in ParsedPage(page).all("meta"))


def lines_of(page: Path) -> list[str]:
    return [text for text in ParsedPage(page).texts.get("li", []) if "epoch" in text]


def act_on(
    steps: Sequence[Callable[[], object]], page: Path
) -> tuple[Callable[[list[State]], None], list[list[str]]]:
    """What is told starts the next step; each time the page was there before, and reloads."""
    seen: list[list[str]] = []
    waiting = list(steps)

    def tell(states: list[State]) -> None:
        shown = lines_of(page)
        # Seconds pass from one to the other.
        assert [line.split()[:5] for line in shown] == [
            f"{state.name} {state.text}".split()[:5] for state in states
        ]
        assert reloads(page) == (len(waiting) > 0)
        seen.append(shown)
        if waiting:
            waiting.pop(0)()

    return tell, seen


def test_a_page_follows_a_run_to_its_end(tmp_path: Path) -> None:
    page, history = tmp_path / "deep" / "page.html", begin(tmp_path / "run", 2)
    steps = [
        lambda: history.append({"epoch": 0, "samples_seen": 10, "ratio": 0.5}),
        lambda: history.append({"epoch": 1, "samples_seen": 20, "ratio": 0.5}),
        history.end,
    ]
    tell, seen = act_on(steps, page)
    (run,) = follow([tmp_path / "run"], page, SOON, tell)
    assert [len(lines) for lines in seen] == [1, 1, 1, 0]
    assert seen[0] == ["run running, epoch 1 of 2, no row yet"]
    assert seen[1][0].startswith("run running, epoch 2 of 2, last row ")
    assert len(run.rows) == 2 and not reloads(page)
    assert "Schedule" in ParsedPage(page).texts["h3"]
    assert [file.name for file in page.parent.iterdir()] == ["page.html"]


def test_signs_of_life_between_rows_are_shown(tmp_path: Path) -> None:
    page, history = tmp_path / "page.html", begin(tmp_path / "run")
    tell, seen = act_on([lambda: history.beat(2.5), history.end], page)
    follow([tmp_path / "run"], page, SOON, tell)
    assert seen[1] == ["run running, epoch 3 of 4, no row yet"]


def test_several_runs_are_followed_until_the_last_has_ended(tmp_path: Path) -> None:
    page, runs = tmp_path / "page.html", [begin(tmp_path / name) for name in "ab"]
    steps = [runs[0].end, lambda: runs[1].append({"epoch": 0}), runs[1].end]
    tell, seen = act_on(steps, page)
    assert len(follow([tmp_path / "a", tmp_path / "b"], page, SOON, tell)) == 2
    assert seen[1] == ["a ended after 0 of 4 epochs", "b running, epoch 1 of 4, no row yet"]
    assert len(seen) == 4


def test_a_run_that_died_is_not_waited_for(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    process = subprocess.Popen(
        [sys.executable, "-c", DYING, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "told\n"

    def kill() -> None:
        process.kill()
        process.communicate()

    tell, seen = act_on([kill], page)
    follow([tmp_path / "run"], page, SOON, tell)
    assert seen[1][0].startswith("mine stopped in epoch 1 of 4, no row yet: its process was killed")
    assert not reloads(page)


def test_ctrl_c_leaves_a_page_that_does_not_reload(tmp_path: Path) -> None:
    page, history = tmp_path / "page.html", begin(tmp_path / "run")

    def interrupt(states: list[State]) -> None:
        assert states and reloads(page)
        raise KeyboardInterrupt

    (run,) = follow([tmp_path / "run"], page, SOON, interrupt)
    assert run.rows == [] and not reloads(page)
    assert lines_of(page) == ["run running, epoch 1 of 4, no row yet"]
    history.end()


def test_a_run_that_has_ended_is_written_once(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    begin(tmp_path / "run").end()
    tell, seen = act_on([], page)
    follow([tmp_path / "run"], page, 3600.0, tell)
    assert seen == [[]] and page.exists()


def test_a_folder_that_is_taken_away(tmp_path: Path) -> None:
    page, history = tmp_path / "page.html", begin(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="no run folder"):
        follow(
            [tmp_path / "run"],
            page,
            SOON,
            lambda _: (tmp_path / "run").rename(tmp_path / "elsewhere"),
        )
    history.end()
