# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The commands, as a user gives them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from composer_dataagent.cli import main
from composer_dataagent.recipes import RecipeError
from composer_dataagent.recipes.demo import RECIPE
from composer_dataagent.recipes.digits import prepare_digits
from composer_dataagent.report import read_run


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("data") / "digits")


def overrides(digits: Path, run_dir: Path, *more: str) -> list[str]:
    return [
        f"run_dir={run_dir}",
        f"train_loader.dataset.local={digits / 'train'}",
        f"eval_loader.dataset.local={digits / 'eval'}",
        "train_loader.batch_size=128",
        *more,
    ]


@dataclass
class Result:
    exit_code: int
    output: str


@pytest.fixture
def invoke(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command in this process (a new one takes seconds to import torch)."""

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main([str(argument) for argument in arguments], prog_name="composer-dataagent")
        assert isinstance(exit_info.value.code, int)
        return Result(exit_info.value.code, "".join(capfd.readouterr()))

    return run


def test_help_everywhere(invoke: Any) -> None:
    top = invoke("--help")
    assert top.exit_code == 0
    for command in ("demo", "train", "report", "plan", "selectors", "prepare-digits"):
        assert command in top.output
        page = invoke(command, "--help")
        assert page.exit_code == 0 and len(page.output.splitlines()) > 5, command


def test_selectors(invoke: Any) -> None:
    lines = invoke("selectors").output.splitlines()
    names = ["data_agent", "entropy", "full", "infobatch", "loss", "random", "reward", "ucb"]
    assert [line.split()[0] for line in lines] == names
    assert all(len(line.split()) > 3 for line in lines)


def test_train_then_report(invoke: Any, digits: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    more = ["trainer.max_duration=2ep", "algorithms.ema={}", "algorithms.label_smoothing={}"]
    result = invoke("train", RECIPE, *overrides(digits, run_dir, *more))
    assert result.exit_code == 0, result.output
    assert "data_agent" in result.output and str(run_dir / "report.html") in result.output
    page = (run_dir / "report.html").read_bytes()
    (run_dir / "report.html").unlink()
    again = invoke("report", run_dir)
    assert again.exit_code == 0 and (run_dir / "report.html").read_bytes() == page
    other = invoke("report", run_dir, run_dir, "--out", tmp_path / "both.html")
    assert other.exit_code == 0 and (tmp_path / "both.html").exists()


def test_train_writes_the_report_where_the_history_is(
    invoke: Any, digits: Path, tmp_path: Path
) -> None:
    run_dir, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    more = ["trainer.max_duration=1ep", f"algorithms.data_agent.run_dir={elsewhere}"]
    result = invoke("train", RECIPE, *overrides(digits, run_dir, *more))
    assert result.exit_code == 0, result.output
    assert str(elsewhere / "report.html") in result.output
    assert (elsewhere / "report.html").exists() and not (run_dir / "report.html").exists()


def test_train_without_data_agent_has_no_report(invoke: Any, digits: Path, tmp_path: Path) -> None:
    more = ["trainer.max_duration=1ep", "~algorithms.data_agent"]
    result = invoke("train", RECIPE, *overrides(digits, tmp_path / "run", *more))
    assert result.exit_code == 0, result.output
    (line,) = (each for each in result.output.splitlines() if "report" in each)
    assert line == "There is no report: the recipe has no data_agent that writes a history"
    assert not list(tmp_path.rglob("report.html"))


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["train", "nowhere.yaml"], 1, "There is no recipe 'nowhere.yaml'"),
        (["train", str(RECIPE), "sede=1"], 1, "Did you mean 'seed'?"),
        (["train", str(RECIPE), "train_loader.dataset.local=nope"], 1, "prepare-digits"),
        (["prepare-digits", "--out", "/dev/null/digits"], 1, "/dev/null/digits cannot be written"),
        (["demo", "--data", "/dev/null/digits"], 1, "/dev/null/digits cannot be written"),
        (["report", "nowhere"], 1, "nowhere"),
        (["report", "a", "b"], 2, "--out"),
        (["report"], 2, "RUN_DIR"),
        (["demo", "--seeds", "0"], 2, "--seeds"),
        (["trian"], 2, "trian"),
    ],
)
def test_mistakes_get_one_line(
    invoke: Any,
    arguments: list[str],
    exit_code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == exit_code
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algorithms.data_agent.ratio=0.01", "use ratio >= 0.0891 or a smaller batch size"),
        ("trainer.device=foo", "trainer.device='foo' is not accepted"),
        ("trainer.dist_timeout=5m", "trainer.dist_timeout='5m' is not accepted; it is a number of"),
        ("train_loader.prefetch_factor=2", "train_loader.prefetch_factor=2 is about workers"),
        ("run_name=..", "run_name='..' is not accepted"),
    ],
)
def test_a_run_that_cannot_start_says_so_in_one_line(
    invoke: Any, digits: Path, tmp_path: Path, override: str, message: str
) -> None:
    more = ["trainer.progress_bar=false", override]
    result = invoke("train", RECIPE, *overrides(digits, tmp_path / "run", *more))
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert line.startswith("Error: ") and message in line


def test_an_error_while_training_is_not_caught(digits: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(digits / "eval", tmp_path / "eval")
    shard = max(damaged.glob("*.mds"))  # not the one that is read to start with
    shard.write_bytes(bytes(shard.stat().st_size))
    more = [f"eval_loader.dataset.local={damaged}", "eval_loader.batch_size=30"]
    # Not a SystemExit with a message: Python shows the traceback.
    with pytest.raises((IndexError, ValueError, OSError)) as caught:
        main(["train", str(RECIPE), *overrides(digits, tmp_path / "run", *more)])
    assert not isinstance(caught.value, RecipeError)


def test_a_finished_run_given_again_shorter_says_so(
    invoke: Any, digits: Path, tmp_path: Path
) -> None:
    for duration in ("2ep", "1ep"):
        more = f"trainer.max_duration={duration}"
        result = invoke("train", RECIPE, *overrides(digits, tmp_path / "run", more))
        assert result.exit_code == 0, result.output
    assert "has trained 2ep already, max_duration=1ep: nothing to do" in result.output


def test_demo(invoke: Any, tmp_path: Path) -> None:
    folder, data = tmp_path / "demo", tmp_path / "digits"
    arguments = ["demo", "--seeds", "1", "--folder", folder, "--data", data]
    first = invoke(*arguments)
    assert first.exit_code == 0, first.output
    for selector in ("full", "random", "infobatch", "data_agent"):
        assert selector in first.output
    runs = {path.parent.name: read_run(path.parent) for path in folder.glob("*/meta.json")}
    assert len(runs) == 4
    shares = {name: run.rows[-1]["share_of_full"] for name, run in runs.items()}
    assert shares["full-seed0"] == 1.0
    assert 0.5 < shares["data_agent-seed0"] == shares["random-seed0"] <= 0.65
    assert (folder / "report.html").exists()

    again = invoke(*arguments)  # everything is used again
    assert again.exit_code == 0 and again.output.count("finished already") == 4


def run_command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_killed_command_goes_on_when_given_again(digits: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    command = ["composer_dataagent", "train", str(RECIPE)]
    command += overrides(digits, run_dir, "trainer.max_duration=12ep")
    process = run_command(*command)
    while process.poll() is None and not list(run_dir.glob("checkpoints/ep3-*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert len(read_run(run_dir).rows) < 12

    process = run_command(*command)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert [row["epoch"] for row in read_run(run_dir).rows] == list(range(12))
    assert "UserWarning" not in output and "Traceback" not in output


@pytest.mark.parametrize(
    "launcher",
    [
        ["composer.cli.launcher", "-n", "2"],
        pytest.param(
            ["torch.distributed.run", "--standalone", "--nproc-per-node=2"], marks=pytest.mark.grid
        ),
    ],
    ids=["composer", "torchrun"],
)
def test_under_a_launcher(digits: Path, tmp_path: Path, launcher: list[str]) -> None:
    """Two real ranks; each trains on its half of the global batch."""
    run_dir = tmp_path / "run"
    process = run_command(
        *launcher,
        "-m",
        "composer_dataagent",
        "train",
        str(RECIPE),
        *overrides(digits, run_dir, "trainer.max_duration=2ep"),
    )
    output, _ = process.communicate()
    assert process.returncode == 0, output
    rows = read_run(run_dir).rows
    assert [row["selected"] for row in rows] == [1437, 719]
    assert sum(rows[-1]["class_selected"].values()) == 719
    assert rows[-1]["batches"] == 12 + 6
    assert (run_dir / "report.html").exists()
