# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``tools/convert.py`` killed and started again: the bytes of a conversion that was not killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from conversion_folders import files_of, killed_after_a_part
from image_files import TOOL, convert, converted, image_folder, told


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("photos"), "train", 1400, "JPEG")


@pytest.mark.parametrize(("jobs", "remote"), [(2, False), (1, True)])
def test_what_was_killed_goes_on_to_the_same_bytes(
    tmp_path: Path, photos: Path, jobs: int, remote: bool
) -> None:
    out = tmp_path / "killed"
    there = ["--remote", tmp_path / "there", "--keep-local"] if remote else []
    arguments = ["folder", photos, "--shard-mb", 0.006]
    command = [sys.executable, TOOL, *map(str, [*arguments, "--out", out, *there, "--jobs", 1])]
    done = killed_after_a_part(subprocess.Popen(command, stderr=subprocess.DEVNULL), out)
    converted(*arguments, "--out", tmp_path / "whole")
    whole = files_of(tmp_path / "whole")
    assert 0 < len(done) < len(list((tmp_path / "whole").glob("part_?????")))

    converted(*arguments, "--out", out, *there, "--jobs", jobs)
    assert files_of(out) == whole
    assert all(folder.stat().st_mtime_ns == then for folder, then in done.items())
    assert not list(out.glob("writing_*"))
    if remote:
        sent = {name: digest for name, digest in whole.items() if "counts" not in name}
        found = files_of(tmp_path / "there")
        assert found == {name: sent[name] for name in found} and "index.json" in found
        assert sum(name.endswith(".mds") for name in found) == sum(
            name.endswith(".mds") for name in sent
        )


def test_two_at_once_are_refused(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "out"
    arguments = ["folder", str(photos), "--out", str(out), "--shard-mb", "0.006"]
    running = subprocess.Popen([sys.executable, TOOL, *arguments], stderr=subprocess.DEVNULL)
    while not list(out.glob("writing_*")):
        assert running.poll() is None
        time.sleep(0.002)
    running.send_signal(19)  # SIGSTOP: it holds the folder, and goes no further
    result = convert(*arguments)
    running.kill()
    running.wait()
    assert result.exit_code == 1 and f"another conversion writes to {out}" in told(result)
