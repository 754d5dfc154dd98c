# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Folders of selections: those of killed processes are removed, and nothing else is."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from mds_samples import make_dataset

from composer_dataagent.streaming import select
from composer_dataagent.streaming.folders import make_folder, remove_folder


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made; what others on this machine left is not touched."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


def killed_after(function: Callable[[], Any], reap: bool = True) -> int:
    """Call a function in another process, which then is killed; its id."""
    pid = os.fork()
    if pid == 0:
        _call_and_die(function)
    if reap:
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    else:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def _call_and_die(function: Callable[[], Any]) -> NoReturn:
    try:
        function()
        os.kill(os.getpid(), signal.SIGKILL)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def renamed(folder: str | Path, at: int, part: str) -> Path:
    """The folder with another part in its name: 2 where processes live, 3 whose, 4 its start."""
    path = Path(folder)
    parts = path.name.split("_", 5)
    parts[at] = part
    return path.rename(path.with_name("_".join(parts)))


@pytest.mark.parametrize("reap", [True, False], ids=["ended", "ended but not waited for"])
def test_the_folder_of_a_killed_process_goes_when_the_next_is_made(
    shards: str, folders: Path, reap: bool
) -> None:
    mine, other, next_one = (make_dataset(shards) for _ in range(3))
    select(mine, [1, 2, 3])
    (kept,) = folders.glob("composer_dataagent_*")
    pid = killed_after(lambda: select(other, [4, 5, 6]), reap)
    (left,) = set(folders.glob("composer_dataagent_*")) - {kept}
    assert f"_{pid}_" in left.name and list(left.glob("*.selection"))
    select(next_one, [7])
    if not reap:
        os.waitpid(pid, 0)
    assert not left.exists()
    assert list(kept.glob("*.selection"))
    assert len(list(folders.glob("composer_dataagent_*"))) == 2


def test_the_books_of_a_killed_run_go_when_the_next_begins(shards: str, folders: Path) -> None:
    def books() -> set[str]:
        return {path.name for path in folders.glob("*_presence_*")}

    mine = make_dataset(shards)
    select(mine, [1, 2, 3])
    kept = books()
    other = make_dataset(shards)
    killed_after(lambda: select(other, [4, 5, 6]))
    left = books() - kept
    assert len(left) == len(kept) > 1
    next_one = make_dataset(shards)
    select(next_one, [7])
    assert not left & books() and kept < books()


def test_a_process_that_has_the_id_of_a_killed_one(folders: Path) -> None:
    renamed(make_folder(), 4, "1")  # this process was not the first that the machine started
    kept = Path(make_folder())
    assert list(folders.glob("composer_dataagent_*")) == [kept]


def test_what_is_not_known_to_be_left_behind_stays(folders: Path, tmp_path: Path) -> None:
    killed_after(make_folder)
    (dead,) = folders.glob("composer_dataagent_*")
    target = tmp_path / "target"
    (target / "inside").mkdir(parents=True)
    kept = {
        Path(shutil.copytree(dead, dead.with_name("composer_dataagent_0at5dbqe"))),
        Path(shutil.copytree(dead, dead.with_name(dead.name + ".kept"))),
        dead.with_name(dead.name + "link"),
        dead.with_name(dead.name + "file"),
        # In another container, or on another machine.
        renamed(shutil.copytree(dead, dead.with_name(dead.name + "copy")), 2, "0" * 12),
    }
    dead.with_name(dead.name + "link").symlink_to(target, target_is_directory=True)
    dead.with_name(dead.name + "file").touch()
    kept.add(Path(make_folder()))
    assert set(folders.glob("composer_dataagent_*")) == kept
    assert (target / "inside").is_dir()


def test_folders_of_other_users_stay(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_after(make_folder)
    (left,) = folders.glob("composer_dataagent_*")
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    make_folder()
    assert left.exists()
    monkeypatch.setattr(os, "getuid", lambda: user)
    make_folder()
    assert not left.exists()


@pytest.mark.parametrize("name", ["scandir", "readlink", "kill"])
def test_a_system_that_tells_nothing(
    folders: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    killed_after(make_folder)
    (left,) = folders.glob("composer_dataagent_*")

    def refuse(*_: Any) -> NoReturn:
        raise PermissionError(name)

    monkeypatch.setattr(os, name, refuse)
    assert Path(make_folder()).is_dir()
    assert left.exists()


def test_a_fork_leaves_the_folder_alone(folders: Path) -> None:
    folder, owner = make_folder(), os.getpid()
    killed_after(lambda: remove_folder(folder, owner))
    assert list(folders.glob("composer_dataagent_*")) == [Path(folder)]
    remove_folder(folder, owner)
    assert not list(folders.glob("composer_dataagent_*"))
