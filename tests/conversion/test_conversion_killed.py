# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``tools/convert_text.py`` killed: what was done is kept, and nothing goes on without it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import psutil
import pytest
from conversion_folders import files_of, killed_after_a_part
from conversions import TOOL, convert, converted, lines_file


def texts(count: int) -> list[dict[str, str]]:
    rng = random.Random(0)
    return [{"text": "".join(rng.choices("abc \n", k=400))} for _ in range(count)]


def started(out: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """A conversion; what it says is in :func:`errors`."""
    with out.with_suffix(".log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, TOOL, *map(str, arguments), "--out", out], stderr=log
        )


def errors(out: Path) -> str:
    return " ".join(out.with_suffix(".log").read_text().split())


def test_a_conversion_that_is_killed_goes_on(tmp_path: Path) -> None:
    path = lines_file(tmp_path / "a.jsonl", texts(3000))
    goes_on(tmp_path, path, jobs_then=2)


def test_a_conversion_of_a_table_that_is_killed_goes_on(tmp_path: Path) -> None:
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(texts(3000)).save_to_disk(str(tmp_path / "set"))
    goes_on(tmp_path, tmp_path / "set", jobs_then=1)


def goes_on(tmp_path: Path, path: Path, jobs_then: int) -> None:
    arguments = ["--length", "64", "--part-mb", "0.1"]
    converted(path, "--out", tmp_path / "whole", *arguments, "--jobs", 1)
    out = tmp_path / "killed"
    done = killed_after_a_part(started(out, path, *arguments, "--jobs", 1), out)
    assert 0 < len(done) < 12
    converted(path, "--out", out, *arguments, "--jobs", jobs_then)
    assert files_of(out) == files_of(tmp_path / "whole")
    assert all(folder.stat().st_mtime_ns == then for folder, then in done.items())


# Each takes some seconds, and shows a shard in its first.
TWO_PARTS = ["--length", 64, "--part-mb", 4, "--shard-mb", 0.1, "--jobs", 2]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lines_file(tmp_path_factory.mktemp("large") / "a.jsonl", texts(15_000))


def in_the_midst(out: Path, path: Path) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """A conversion that is writing, and its workers."""
    running = started(out, path, *TWO_PARTS)
    while not list(out.rglob("*.mds")):
        assert running.poll() is None
        time.sleep(0.01)
    children = psutil.Process(running.pid).children()
    return running, [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def wait_for(workers: list[psutil.Process], out: Path) -> None:
    """Until they are gone, which have to be so before they are done."""
    while any(worker.is_running() for worker in workers):
        assert not list(out.glob("part_?????"))
        time.sleep(0.01)


def test_workers_end_with_a_conversion_that_is_killed(tmp_path: Path, large: Path) -> None:
    killed, workers = in_the_midst(tmp_path / "out", large)
    killed.kill()
    wait_for(workers, tmp_path / "out")
    assert killed.wait() == -signal.SIGKILL


def test_what_a_killed_one_still_writes_is_not_in_the_way(tmp_path: Path, large: Path) -> None:
    small = lines_file(tmp_path / "small.jsonl", texts(300))
    killed, workers = in_the_midst(tmp_path / "out", large)
    for worker in workers:  # those that do not notice
        worker.suspend()
    killed.kill()
    killed.wait()
    told = converted(small, "--out", tmp_path / "out", "--pad")
    before = files_of(tmp_path / "out")
    for worker in workers:
        worker.resume()
    psutil.wait_procs(workers)
    assert told["samples"] == 300 and files_of(tmp_path / "out") == before
    assert converted(small, "--out", tmp_path / "out", "--pad") == told
    assert not list((tmp_path / "out").glob("writing_*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_that_is_told_to_end_takes_its_workers_along(
    tmp_path: Path, large: Path, number: signal.Signals
) -> None:
    told, workers = in_the_midst(tmp_path / "out", large)
    assert "another conversion" in convert(large, "--out", tmp_path / "out", *TWO_PARTS).output
    told.send_signal(number)
    assert told.wait() == 1 and "Aborted!" in errors(tmp_path / "out")
    assert "Traceback" not in errors(tmp_path / "out")
    assert not any(worker.is_running() for worker in workers)
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {".lock", "conversion.json"}


def test_a_worker_that_is_killed_is_told(tmp_path: Path, large: Path) -> None:
    running, workers = in_the_midst(tmp_path / "out", large)
    workers[0].kill()
    assert running.wait() == 1 and "with fewer --jobs" in errors(tmp_path / "out")
    assert "Traceback" not in errors(tmp_path / "out")
