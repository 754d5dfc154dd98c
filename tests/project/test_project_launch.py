# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""launch/: each way to start several nodes trains one run on two of them.

A node here is a process with a /dev/shm, a folder for temporary files and a disk of its own; the
nodes talk over the loopback. Of Slurm there is only what its script calls: srun and scontrol that do
for two such nodes what theirs do.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from composer_dataagent.recipes.digits import prepare_digits
from composer_dataagent.report import read_run

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
BINARIES = Path(sys.executable).parent
# Arguments: this node's disk, where it is mounted, and the command.
NODE = """
mount -t tmpfs tmpfs /dev/shm && mount --bind "$1" "$2" || exit 77
mkdir -p "$2/tmp" && export TMPDIR="$2/tmp" && shift 2 && exec "$@"
"""
APART = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", NODE, "sh"]
# Options first, as of the script.
SRUN = """#!/bin/sh
while [ "${{1#--}}" != "$1" ]; do shift; done
SLURM_NODEID=0 {node0} "$@" & first=$!
SLURM_NODEID=1 {node1} "$@" && wait $first
"""


def lint(tool: str, *arguments: object) -> None:
    command = [str(BINARIES / tool), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_linters_have_nothing_to_say() -> None:
    lint("shellcheck", *LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch")
    manifests = sorted(LAUNCH.glob("*.yaml"))
    for version in ("1.31", "1.37"):
        lint("kubernetes-validate", "--strict", "--kubernetes-version", version, *manifests)


@dataclass(frozen=True)
class Cluster:
    """Two nodes.

    Attributes:
        folder (Path): Seen by both; has the disk of each, too.
        data (Path): The digits' shards.
    """

    folder: Path
    data: Path

    @property
    def scratch(self) -> Path:
        """Where each node has its own disk."""
        return self.folder / "scratch"

    @property
    def run_dir(self) -> Path:
        return self.folder / "runs" / "digits"

    def node(self, rank: int) -> list[str]:
        """What a command is put behind to run on a node."""
        return [*APART, str(self.folder / f"disk{rank}"), str(self.scratch)]

    def arguments(self, epochs: int = 2) -> list[str]:
        """Of ``train``."""
        return [
            str(ROOT / "yamls" / "digits.yaml"),
            f"run_dir={self.run_dir}",
            *self.data_arguments(),
            f"trainer.max_duration={epochs}ep",
        ]

    def data_arguments(self) -> list[str]:
        return [
            f"{split}_loader.dataset.{key}={folder / split}"
            for split in ("train", "eval")
            for key, folder in {"remote": self.data, "local": self.scratch}.items()
        ]

    def start(self, *command: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{BINARIES}:{os.environ['PATH']}",
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": str(ROOT),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # with all that it starts
        )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("data") / "digits")


@pytest.fixture
def cluster(tmp_path: Path, data: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, data)
    for name in ("disk0", "disk1", "scratch"):
        (tmp_path / name).mkdir()
    if subprocess.run([*made.node(0), "true"], check=False).returncode:
        pytest.skip("the system gives no /dev/shm of one's own")
    yield made


def free_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])


def end(processes: list[subprocess.Popen[str]]) -> None:
    """Wait for all; when one has failed, do not let the others wait for it."""
    while any(process.poll() is None for process in processes):
        if any(process.returncode for process in processes):
            for process in processes:
                kill(process)
        time.sleep(0.1)


def kill(process: subprocess.Popen[str]) -> None:
    """A machine that goes off."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def by_hand(script: str) -> Callable[[Cluster], list[subprocess.Popen[str]]]:
    def start(cluster: Cluster, epochs: int = 2) -> list[subprocess.Popen[str]]:
        port = free_port()
        return [
            cluster.start(
                *cluster.node(rank),
                LAUNCH / script,
                *cluster.arguments(epochs),
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=port,
                GPUS="1",
                NODE_RANK=str(rank),
            )
            for rank in (0, 1)
        ]

    return start


def by_slurm(cluster: Cluster) -> list[subprocess.Popen[str]]:
    import shlex

    tools = cluster.folder / "slurm"
    tools.mkdir()
    nodes = {f"node{rank}": shlex.join(cluster.node(rank)) for rank in (0, 1)}
    for name, text in {
        "srun": SRUN.format(**nodes),
        "scontrol": "#!/bin/sh\necho 127.0.0.1\necho 127.0.0.2\n",
    }.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    return [
        cluster.start(
            "bash",
            LAUNCH / "slurm.sbatch",
            *cluster.arguments(),
            PATH=f"{tools}:{BINARIES}:{os.environ['PATH']}",
            SLURM_JOB_ID=free_port(),
            SLURM_JOB_NUM_NODES="2",
            SLURM_JOB_NODELIST="node[1-2]",
            SLURM_CPUS_PER_TASK="1",
        )
    ]


def by_kubernetes(cluster: Cluster) -> list[subprocess.Popen[str]]:
    manifests = list(yaml.safe_load_all((LAUNCH / "kubernetes-multinode.yaml").read_text()))
    service, job = (each for each in manifests if each["kind"] in ("Service", "Job"))
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    (container,) = pod["containers"]
    given: dict[str, Any] = {each["name"]: each.get("value") for each in container["env"]}
    ranks, of_node = int(given["WORLD_SIZE"]), int(given["LOCAL_WORLD_SIZE"])
    assert ranks == of_node * job["spec"]["completions"]
    assert given["MASTER_ADDR"] == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    here = {"/runs": cluster.folder / "runs", "/cache": cluster.scratch}
    assert {*here, "/dev/shm"} == {mount["mountPath"] for mount in container["volumeMounts"]}
    command = [*container["command"], *container["args"]]
    for inside, outside in here.items():
        command = [part.replace(f"={inside}/", f"={outside}/") for part in command]
    command[command.index("yamls/imagenet_resnet50.yaml")] = str(ROOT / "yamls" / "digits.yaml")
    set_here = {
        **{name: value for name, value in given.items() if value is not None},
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "LOCAL_WORLD_SIZE": "1",
        "WORLD_SIZE": "2",
    }
    more = [*cluster.arguments()[1:]]
    return [
        cluster.start(*cluster.node(rank), *command, *more, **set_here, NODE_RANK=str(rank))
        for rank in (0, 1)
    ]


@pytest.mark.parametrize(
    "start",
    [by_hand("nodes.sh"), by_hand("torchrun.sh"), by_slurm, by_kubernetes],
    ids=["by hand", "torchrun", "Slurm", "Kubernetes"],
)
def test_two_nodes_train_one_run(
    start: Callable[[Cluster], list[subprocess.Popen[str]]], cluster: Cluster
) -> None:
    processes = start(cluster)
    end(processes)
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)
    assert "".join(said).count("Report: ") == 1, "one rank of all writes it"
    rows = read_run(cluster.run_dir).rows
    assert [row["selected"] for row in rows] == [1437, 719]
    assert sum(rows[-1]["class_selected"].values()) == 719
    for rank in (0, 1):  # each has fetched what it trained on
        assert (cluster.folder / f"disk{rank}" / "train" / "index.json").exists()
