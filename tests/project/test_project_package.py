# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is shipped is whole: wheel and sdist build, install in a new environment, and work there."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from composer_dataagent.version import __version__

ROOT = Path(__file__).parents[2]


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    return set(run("git", "ls-files", cwd=ROOT).splitlines())


def test_the_wheel_has_the_package_and_the_recipes(built: Path, tracked: set[str]) -> None:
    (wheel,) = built.glob(f"composer_dataagent-{__version__}-*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {name for name in tracked if name.startswith("composer_dataagent/")}
    expected |= {f"composer_dataagent/{name}" for name in tracked if name.startswith("yamls/")}
    assert names == expected


def test_the_sdist_has_all_that_is_tracked(built: Path, tracked: set[str]) -> None:
    (sdist,) = built.glob(f"composer_dataagent-{__version__}.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    of_the_repository = {".ci/run", ".gitignore", ".pre-commit-config.yaml"}
    assert tracked - of_the_repository <= names


def test_the_wheel_works_where_nothing_of_the_repository_is(built: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    binaries = tmp_path / "venv" / "bin"
    (wheel,) = built.glob("*.whl")
    run(binaries / "pip", "install", "--no-index", "--no-deps", wheel, cwd=tmp_path)
    # What it needs comes from the environment of the tests: not this package, which is not in there
    # itself but named by a file that only counts there.
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = binaries / "composer-dataagent"
    where = "import composer_dataagent; print(composer_dataagent.__file__)"
    assert str(site) in run(binaries / "python", "-c", where, cwd=tmp_path)
    assert __version__ in run(command, "--version", cwd=tmp_path)
    recipe = site / "composer_dataagent" / "yamls" / "digits.yaml"
    shown = run(command, "validate", recipe, "--smoke", cwd=tmp_path)
    assert "trained epochs of 12 and 6 random samples" in shown
    run(command, "prepare-digits", cwd=tmp_path)
    run(command, "train", recipe, "trainer.max_duration=2ep", cwd=tmp_path)
    assert (tmp_path / "runs" / "digits" / "report.html").exists()
    run(command, "suspects", "runs/digits", cwd=tmp_path)


def test_the_changes_are_those_of_this_version() -> None:
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if "## " in line]
    assert headings[0].startswith(f"## {__version__}")
