# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reports of runs that go on, as a user asks for them in another terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_run import write_run

from composer_dataagent.cli import main
from composer_dataagent.recipes.demo import RECIPE
from composer_dataagent.recipes.digits import prepare_digits
from composer_dataagent.report import History

RELOADS = 'http-equiv="refresh"'


def command(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "composer_dataagent", *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    while not reached():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def run_here(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    capfd.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments], prog_name="composer-dataagent")
    assert isinstance(exit_info.value.code, int)
    return exit_info.value.code, "".join(capfd.readouterr())


def test_a_run_that_trains_is_reported_followed_and_missed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    digits, run_dir = prepare_digits(tmp_path / "digits"), tmp_path / "run"
    training = command(
        "train",
        RECIPE,
        f"run_dir={run_dir}",
        f"train_loader.dataset.local={digits / 'train'}",
        f"eval_loader.dataset.local={digits / 'eval'}",
        "trainer.max_duration=5000ep",
        "trainer.save_interval=1000ep",
        "trainer.progress_bar=false",
    )
    rows = run_dir / "history.jsonl"
    wait_for(training, lambda: rows.exists() and rows.read_bytes().count(b"\n") > 2)
    code, output = run_here(capfd, "report", run_dir, "--out", tmp_path / "now.html")
    assert code == 0, output
    assert re.search(r"running, epoch \d+ of 5000, last row \d+ (s|min) ago", output), output
    page = (tmp_path / "now.html").read_text()
    assert "running, epoch" in page and RELOADS not in page and "Which shards are read" in page

    live = tmp_path / "live.html"
    following = command("report", run_dir, "--follow", "--every", "1", "--out", live)
    wait_for(following, lambda: live.exists() and RELOADS in live.read_text())
    training.send_signal(signal.SIGKILL)
    training.communicate()
    output, _ = following.communicate()
    assert following.returncode == 0, output
    assert "running, epoch" in output and "its process was killed or failed" in output
    assert "as estimated:" in output and f"Report: {live}" in output
    assert RELOADS not in live.read_text()


def test_ctrl_c_ends_following_cleanly(tmp_path: Path) -> None:
    history = History(tmp_path / "run")
    history.begin({"run_name": "mine", "selector": "random", "num_epochs": 4}, epoch=0)
    page = tmp_path / "run" / "report.html"
    following = command("report", tmp_path / "run", "--follow")
    wait_for(following, lambda: page.exists() and RELOADS in page.read_text())
    following.send_signal(signal.SIGINT)
    output, _ = following.communicate()
    assert following.returncode == 0, output
    assert "Traceback" not in output and "Aborted" not in output and f"Report: {page}" in output
    assert RELOADS not in page.read_text()
    history.end()


def test_pictures_and_prices(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path, name, samples=False).path for name in ("full", "data_agent")]
    page, png = tmp_path / "page.html", tmp_path / "png"
    arguments = ["report", *runs, "--out", page, "--png", png, "--dollars-per-hour", "3600"]
    code, output = run_here(capfd, *arguments)
    assert code == 0, output
    # 8 epochs of 8 s less the bookkeeping's 0.01 s, against 8 s and 7 times 5 s.
    assert "data_agent against full data: 44 % fewer samples trained, 33 % less time ($20.92" in (
        output
    )
    assert "An hour is reckoned at $3,600." in page.read_text()
    files = sorted(png.glob("*.png"))
    assert f"Pictures: {len(files)} in {png}" in output and len(files) > 8
    assert run_here(capfd, *arguments)[0] == 0  # the same again
    files[0].write_bytes(b"mine")
    code, output = run_here(capfd, *arguments)
    assert code == 1 and str(files[0]) in output and "--overwrite" in output
    assert files[0].read_bytes() == b"mine"
    code, output = run_here(capfd, *arguments, "--follow")
    assert code == 1 and "has pictures already" in output
    assert run_here(capfd, *arguments, "--overwrite")[0] == 0
    assert files[0].read_bytes() != b"mine"


def test_a_file_that_is_no_page_is_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, samples=False, epochs=2)
    history = run.path / "history.jsonl"
    before = history.read_bytes()
    code, output = run_here(capfd, "report", run.path, "--out", history)
    assert code == 1 and "no HTML page" in output and history.read_bytes() == before
    empty = tmp_path / "empty.html"
    empty.touch()
    assert run_here(capfd, "report", run.path, "--out", empty)[0] == 1
    for more in (["--overwrite"], []):  # and a page is replaced
        assert run_here(capfd, "report", run.path, "--out", empty, *more)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--every", "5"], "--every is about --follow"),
        (["--follow", "--every", "0"], "--every"),
        (["--follow", "--every", "nan"], "nan is not a number"),
        (["--dollars-per-hour", "nan"], "nan is not a number"),
        (["--dollars-per-hour", "-1"], "--dollars-per-hour"),
    ],
)
def test_mistakes(
    capfd: pytest.CaptureFixture[str], arguments: list[str], message: str, tmp_path: Path
) -> None:
    code, output = run_here(capfd, "report", tmp_path, *arguments)
    assert code == 2 and message in output and not list(tmp_path.iterdir())
