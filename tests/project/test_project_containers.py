# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""docker/ without an engine: the commands of the images and of compose.yaml do their work.

Those of compose.yaml run in its order, in a folder that stands for the images' working directory,
on ports that are free. What an engine does with them is not seen here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest
import yaml
from free_port import free_port

from composer_dataagent.report import read_run

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
BINARIES = Path(sys.executable).parent
WORKDIR = "/app"


def run(*command: object, cwd: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# ------------------------------------------------------------------ what images are made of


def test_linters_have_nothing_to_say() -> None:
    run(BINARIES / "hadolint", "Dockerfile", cwd=DOCKER)
    schema = ["--builtin-schema", "vendor.compose-spec"]
    run(BINARIES / "check-jsonschema", *schema, "compose.yaml", cwd=DOCKER)


def test_what_is_sent_to_the_builder_is_enough(tmp_path: Path) -> None:
    pytest.importorskip("tomllib")  # the image's Python has it, the oldest that we run on has not
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    for name in (line[1:] for line in lines if line.startswith("!")):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, tmp_path / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir=out", ".", cwd=tmp_path)
    assert list(tmp_path.glob("out/composer_dataagent-*.whl"))

    (extras,) = re.findall(r'^ARG EXTRAS="(.*)"$', DOCKERFILE, re.MULTILINE)
    script = [sys.executable, "docker/requirements.py"]
    needed = run(*script, *extras.split(), cwd=tmp_path)
    names = {re.split(r"[^\w-]", line)[0] for line in needed.splitlines()}
    assert {"mosaicml", "torch", "scikit-learn", "tensorboard", "peft"} <= names
    assert not {"pytest", "moto"} & names
    assert re.search(r"^moto\[.*server.*\]>=", run(*script, "test", cwd=tmp_path), re.MULTILINE)
    wrong = subprocess.run([*script, "tset"], cwd=tmp_path, capture_output=True, check=False)
    assert wrong.returncode == 1 and b"no extra tset" in wrong.stderr


# ------------------------------------------------------------------ compose.yaml


class Composed:
    """The services of compose.yaml, run as processes of this machine.

    Args:
        folder (Path): Stands for the images' working directory.
    """

    def __init__(self, folder: Path) -> None:
        self.services: dict[str, dict[str, Any]] = yaml.safe_load(
            (DOCKER / "compose.yaml").read_text()
        )["services"]
        self.folder = folder
        self.ports = {port: free_port() for port in ("5000", "6006")}
        (folder / "yamls").symlink_to(ROOT / "yamls")  # the Dockerfile links the wheel's
        for service in self.services.values():
            for volume in service.get("volumes", []):
                source, target, *_ = volume.split(":")
                inside = folder / Path(target).relative_to(WORKDIR)
                if source.startswith("."):
                    inside.symlink_to(DOCKER / source)
                else:
                    inside.mkdir(exist_ok=True)

    def order(self) -> list[str]:
        """Each service after those that it depends on."""
        found: list[str] = []

        def add(name: str) -> None:
            for before in self.services[name].get("depends_on", {}):
                add(before)
            if name not in found:
                found.append(name)

        for name in self.services:
            add(name)
        return found

    def command(self, name: str) -> list[str]:
        service = self.services[name]
        entrypoint = service.get("entrypoint") or _entrypoint(service["build"]["target"])
        return [self._here(part) for part in [*entrypoint, *service["command"]]]

    def health(self, name: str) -> list[str]:
        kind, *command = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return [self._here(part) for part in command]

    def environment(self, name: str) -> dict[str, str]:
        """Of this process, and what the service sets; nothing of the user's own store."""
        own = {
            key: self._here(value.replace("//s3:", "//127.0.0.1:"))
            for key, value in self.services[name].get("environment", {}).items()
        }
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("AWS_")},
            "PATH": f"{BINARIES}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            **{
                key: self._here(value.replace("//s3:", "//127.0.0.1:"))
                for key, value in own.items()
            },
        }

    def do(self, name: str, *more: str) -> str:
        command = [*self.command(name), *more]
        return run(*command, cwd=self.folder, environment=self.environment(name))

    @contextmanager
    def serving(self, name: str, is_up: Callable[[], bool]) -> Iterator[None]:
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.command(name),
                cwd=self.folder,
                env=self.environment(name),
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            while not is_up():
                assert process.poll() is None, log.read_text()
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait()

    def _here(self, text: str) -> str:
        for port, free in self.ports.items():
            text = re.sub(rf"(?<!\d){port}(?!\d)", str(free), text)
        return text.replace("0.0.0.0", "127.0.0.1")


def _entrypoint(target: str) -> Sequence[str]:
    """Of a stage of the Dockerfile."""
    stage = DOCKERFILE.split(f" AS {target}\n")[1].split("\nFROM ")[0]
    (entrypoint,) = re.findall(r"^ENTRYPOINT (.*)$", stage, re.MULTILINE)
    return json.loads(entrypoint)


def test_the_composed_services_prepare_upload_train_and_show(tmp_path: Path) -> None:
    composed = Composed(tmp_path)
    published = [port for each in composed.services.values() for port in each.get("ports", [])]
    assert published == ["127.0.0.1:6006:6006"]
    assert composed.order() == ["s3", "prepare", "upload", "train", "tensorboard"]

    def answers() -> bool:
        probe = subprocess.run(
            composed.health("s3"),
            env=composed.environment("s3"),
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return probe.returncode == 0

    assert not answers()
    with ExitStack() as running:
        running.enter_context(composed.serving("s3", answers))
        composed.do("prepare")
        composed.do("upload")
        composed.do("upload")  # as each `up` does: the bucket is there already
        composed.do("train", "trainer.max_duration=2ep")
    rows = read_run(tmp_path / "runs" / "digits").rows
    assert [row["selected"] for row in rows] == [1437, 719]
    assert (tmp_path / "cache" / "train" / "index.json").exists(), "it came out of the store"
    assert (tmp_path / "runs" / "digits" / "report.html").exists()

    def curves() -> dict[str, Any]:
        url = f"http://127.0.0.1:{composed.ports['6006']}/data/plugin/scalars/tags"
        try:
            with build_opener(ProxyHandler({})).open(url) as response:
                return json.loads(response.read())
        except OSError:
            return {}

    with composed.serving("tensorboard", lambda: bool(curves())):
        assert "data_agent/ratio" in curves()["digits"]
