# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A run folder is written by one process at a time, and by the next one as soon as that ended."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from pathlib import Path

import pytest
from run_writer import run_writer

from composer_dataagent.report import History
from composer_dataagent.report.hold import LOCK, InUseError, is_held, take

META = {"run_name": "mine", "selector": "random", "num_epochs": 10}


def test_a_folder_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    with run_writer(tmp_path, epochs=1) as process:
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        for overwrite in (False, True):
            with pytest.raises(InUseError, match="in use by another process"):
                History(tmp_path, overwrite).begin(META, epoch=0)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        process.send_signal(signal.SIGKILL)
        process.wait()
        # Its child is still there.
        History(tmp_path).begin(META, epoch=0)


def test_the_same_process_may_begin_again(tmp_path: Path) -> None:
    first, second = History(tmp_path), History(tmp_path)
    first.begin(META, epoch=0)
    second.begin(META, epoch=0)
    del first
    assert is_held(tmp_path / LOCK)
    del second
    assert not is_held(tmp_path / LOCK)


def test_a_child_of_the_writer_is_another_process(tmp_path: Path) -> None:
    hold = take(tmp_path)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        with pytest.raises(InUseError):
            pool.apply(take, (tmp_path,))
        assert hold.is_seen and is_held(tmp_path / LOCK)
        del hold
        assert pool.apply(is_held, (tmp_path / LOCK,)) is False


def test_whoever_looks_does_not_keep_a_writer_away(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            is_held(tmp_path / LOCK)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(200):
            hold = take(tmp_path)
            assert hold.is_seen
            del hold
    finally:
        stop.set()
        looking.join()
