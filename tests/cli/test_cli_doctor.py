# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What keeps a machine from training is named, with what to do about it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import packaging
import pytest
from click.testing import CliRunner
from mds_samples import NUM_SAMPLES, write_shards
from object_store import Fault, ObjectStore, object_store
from own_mounts import apart

import composer_dataagent
from composer_dataagent.cli import main
from composer_dataagent.doctor import check_local
from composer_dataagent.recipes.demo import RECIPE
from composer_dataagent.recipes.digits import prepare_digits


def invoke(*arguments: object, environment: Mapping[str, str | None] | None = None) -> Any:
    return CliRunner(env=environment).invoke(main, ["doctor", *map(str, arguments)])


def run(python: str, *before: str, environment: Mapping[str, str]) -> Any:
    """In a process of its own."""
    command = [*before, python, "-m", "composer_dataagent", "doctor"]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as running:
        yield running


@pytest.fixture(scope="module")
def remote(store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> str:
    return store.upload(write_shards(tmp_path_factory.mktemp("shards")), "plain")


def test_this_machine_can_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke()
    assert result.exit_code == 0, result.output
    assert f"good  torch {metadata.version('torch')}" in result.output
    assert "/dev/shm: " in result.output and "extra demo" in result.output
    assert "good  runs: " in result.output
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ packages


def test_packages_that_are_not_there(tmp_path: Path) -> None:
    """An environment with this package and what its command line needs, and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    site = next(tmp_path.glob("venv/lib/python*/site-packages"))
    own = Path(sysconfig.get_path("purelib"))
    for module in (click, packaging, composer_dataagent):
        folder = Path(str(module.__file__)).parent
        (site / folder.name).symlink_to(folder)
    info = next(own.glob("composer_dataagent-*.dist-info"))
    shutil.copytree(info, site / info.name)
    old = site / "numpy-1.2.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.2\n")
    result = run(str(tmp_path / "venv" / "bin" / "python"), environment={"PYTHONPATH": ""})
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "bad   torch is not installed\n      pip install 'torch<2.7.1,>=2.6'" in result.stdout
    assert "bad   numpy 1.2 is installed, but " in result.stdout
    assert "extra demo: no scikit-learn" in result.stdout
    assert "to be mended before training" in result.stderr


def test_a_package_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    broken = "raise OSError('libcudnn.so.9: cannot open shared object file')"
    (tmp_path / "torch" / "__init__.py").write_text(broken)
    result = run(sys.executable, environment={"PYTHONPATH": str(tmp_path)})
    assert result.returncode == 1 and "Traceback" not in result.stderr
    version = metadata.version("torch")
    assert f"bad   torch {version} cannot be imported (OSError: libcudnn.so.9: " in result.stdout
    assert "pip install 'composer-dataagent==" in result.stdout


# ------------------------------------------------------------------ the machine


@pytest.mark.parametrize(("size", "level"), [("1m", "bad"), ("64m", "note"), ("1g", "good")])
def test_little_shared_memory(size: str, level: str) -> None:
    mounted = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
    result = run(sys.executable, *apart(mounted), environment={})
    (line,) = (each for each in result.stdout.splitlines() if "/dev/shm: " in each)
    assert line.startswith(level)
    assert (result.returncode == 1) == (level == "bad")
    assert ("--shm-size" in result.stdout) == (level != "good")


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    result = run(sys.executable, environment={"TMPDIR": "/proc"})
    # Python itself passes over folders that it cannot write, as long as it finds another.
    assert result.returncode == 0, result.stdout
    assert check_local(Path("/proc/runs")).level == "bad"
    assert "cannot be written" in check_local(Path("/proc/runs")).what
    (tmp_path / "file").touch()
    assert "is a file" in check_local(tmp_path / "file" / "runs").what
    assert check_local(tmp_path / "deep" / "runs").level == "good"
    assert not (tmp_path / "deep").exists()
    full = check_local(tmp_path, needed=1 << 60)
    assert full.level == "bad" and "cache_limit" in full.advice


# ------------------------------------------------------------------ the data


def test_data_that_can_be_read(store: ObjectStore, remote: str, tmp_path: Path) -> None:
    result = invoke(remote, environment=store.environment)
    assert result.exit_code == 0, result.output
    assert f"good  {remote}: {NUM_SAMPLES} samples in " in result.output
    zipped = write_shards(tmp_path, compression="zstd")
    result = invoke(zipped)
    assert "100% of it always comes in whole shards, which are compressed" in result.output


def test_what_is_wrong_with_a_bucket(store: ObjectStore, remote: str) -> None:
    def told(source: str, what: str, **environment: str | None) -> bool:
        result = invoke(source, environment=store.environment | environment)
        assert result.exit_code == 1, result.output
        (line,) = (each for each in result.output.splitlines() if each.startswith("bad"))
        return line.startswith(f"bad   {source}: {what}")

    assert told("s3://data/elsewhere", "there is no index.json")
    assert told("s3://another-bucket/plain", "there is no such bucket")
    nobody = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    store.break_down(Fault("index.json", "status", 403))
    assert told(remote, "these credentials may not read it")
    store.mend()
    assert told(remote, "there are no credentials", **nobody)
    assert told(remote, "it cannot be reached", S3_ENDPOINT_URL="http://127.0.0.1:9")
    result = invoke("nowhere/at/all")
    assert result.exit_code == 1 and "there is no index.json" in result.output


def test_a_folder_of_splits_names_them(store: ObjectStore, tmp_path: Path) -> None:
    prepare_digits(tmp_path / "digits")
    result = invoke(tmp_path / "digits")
    assert result.exit_code == 1
    assert "in its folders train and eval: name one of these (doctor --split train" in result.output
    assert invoke(tmp_path / "digits", "--split", "train").exit_code == 0
    store.upload(write_shards(tmp_path / "plain"), "splits/val")
    result = invoke("s3://data/splits", environment=store.environment)
    assert "in its folder val: name it (doctor --split val" in result.output


def test_secrets_are_not_told(store: ObjectStore, remote: str) -> None:
    secret = {"AWS_SECRET_ACCESS_KEY": "very-secret", "AWS_ACCESS_KEY_ID": "the-id"}
    store.break_down(Fault("index.json", "status", 403))
    result = invoke(remote, environment=store.environment | secret)
    store.mend()
    assert result.exit_code == 1
    assert "very-secret" not in result.output and "the-id" not in result.output


def test_a_recipe_has_its_data_and_folders_looked_at(
    store: ObjectStore, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(RECIPE)
    assert result.exit_code == 1
    assert "bad   data/digits/train: there is no index.json" in result.output
    prepare_digits("data/digits")
    result = invoke(RECIPE)
    assert result.exit_code == 0, result.output
    assert "good  runs/digits: " in result.output
    assert "good  data/digits/eval: 360 samples in " in result.output
    text = RECIPE.read_text().replace(
        "local: data/digits/train", f"local: /proc/cache\n    remote: {remote}"
    )
    Path("mine.yaml").write_text(text)
    result = invoke("mine.yaml", environment=store.environment)
    assert result.exit_code == 1
    assert f"good  {remote}: " in result.output and "bad   /proc cannot be" in result.output
    result = invoke("nowhere.yaml")
    assert result.exit_code == 1 and "There is no recipe 'nowhere.yaml'" in result.output
