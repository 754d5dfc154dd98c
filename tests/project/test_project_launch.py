# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""launch/: each way to start several nodes trains one run on two of them.

A node here is a process with a /dev/shm, a folder for temporary files and a disk of its own; nodes
talk over the loopback. Of Slurm there is what its script calls only: srun and scontrol that do for
two such nodes what the real ones do.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from free_port import free_port
from own_mounts import apart

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
SRUN = """#!/bin/sh
while [ "${{1#--}}" != "$1" ]; do shift; done
SLURM_NODEID=0 {nodes[0]} "$@" & first=$!
SLURM_NODEID=1 {nodes[1]} "$@" && wait $first
"""
SCONTROL = "#!/bin/sh\necho 127.0.0.1\necho 127.0.0.2\n"
Processes = list["subprocess.Popen[str]"]


def lint(tool: str, *arguments: object) -> None:
    command = [str(BINARIES / tool), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_linters_have_nothing_to_say() -> None:
    lint("shellcheck", *LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch")
    manifests = sorted(LAUNCH.glob("*.yaml"))
    for version in ("1.31", "1.37"):
        lint("kubernetes-validate", "--strict", "--kubernetes-version", version, *manifests)


def test_one_pod_does_what_each_of_several_does_but_for_the_others() -> None:
    one, several = (
        manifests_of(name)["Job"]["spec"]["template"]["spec"]
        for name in ("kubernetes.yaml", "kubernetes-multinode.yaml")
    )
    about_others = {"WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"}
    (container,) = several["containers"]
    container["env"] = [each for each in container["env"] if each["name"] not in about_others]
    container["args"].remove("trainer.dist_timeout=1800")
    del several["subdomain"], several["affinity"]
    assert one == several


@dataclass(frozen=True)
class Cluster:
    """Two nodes.

    Attributes:
        folder (Path): Storage that both see; has the disk of each, too.
        data (Path): The digits' shards.
    """

    folder: Path
    data: Path

    @property
    def scratch(self) -> Path:
        """Where each node's own disk is mounted."""
        return self.folder / "scratch"

    @property
    def run_dir(self) -> Path:
        return self.folder / "runs" / "digits"

    def node(self, rank: int) -> list[str]:
        """What a command is put behind to run on a node."""
        return [*apart(NODE), str(self.folder / f"disk{rank}"), str(self.scratch)]

    def overrides(self, epochs: int) -> list[str]:
        return [
            f"run_dir={self.run_dir}",
            f"trainer.max_duration={epochs}ep",
            f"train_loader.dataset.remote={self.data / 'train'}",
            f"train_loader.dataset.local={self.scratch / 'train'}",
            f"eval_loader.dataset.remote={self.data / 'eval'}",
            f"eval_loader.dataset.local={self.scratch / 'eval'}",
        ]

    def start(self, *command: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env={
                **os.environ,
                "PATH": f"{BINARIES}:{os.environ['PATH']}",
                "OMP_NUM_THREADS": "1",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # so that it ends with all that it starts
        )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("data") / "digits")


@pytest.fixture
def cluster(tmp_path: Path, data: Path) -> Cluster:
    made = Cluster(tmp_path, data)
    for name in ("disk0", "disk1", "scratch"):
        (tmp_path / name).mkdir()
    if subprocess.run([*made.node(0), "true"], check=False).returncode:
        pytest.skip("the system gives no /dev/shm of one's own")
    return made


def end(processes: Processes) -> list[str]:
    """Wait for all (if one fails, the others are not left to wait for it); what they said."""
    while any(process.poll() is None for process in processes):
        if any(process.returncode for process in processes):
            for process in processes:
                switch_off(process)
        time.sleep(0.1)
    return [process.communicate()[0] for process in processes]


def switch_off(process: subprocess.Popen[str]) -> None:
    """As a machine: nothing of it is left."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def by_script(name: str, cluster: Cluster, epochs: int) -> Processes:
    port = str(free_port())
    return [
        cluster.start(
            *[*cluster.node(rank), LAUNCH / name, "yamls/digits.yaml", *cluster.overrides(epochs)],
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
            GPUS="1",
            NODE_RANK=str(rank),
        )
        for rank in (0, 1)
    ]


def by_hand(cluster: Cluster, epochs: int) -> Processes:
    return by_script("nodes.sh", cluster, epochs)


def by_torchrun(cluster: Cluster, epochs: int) -> Processes:
    return by_script("torchrun.sh", cluster, epochs)


def by_slurm(cluster: Cluster, epochs: int) -> Processes:
    tools = cluster.folder / "slurm"
    tools.mkdir()
    nodes = [shlex.join(cluster.node(rank)) for rank in (0, 1)]
    for name, text in {"srun": SRUN.format(nodes=nodes), "scontrol": SCONTROL}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    job = cluster.start(
        *["bash", LAUNCH / "slurm.sbatch", "yamls/digits.yaml", *cluster.overrides(epochs)],
        PATH=f"{tools}:{BINARIES}:{os.environ['PATH']}",
        SLURM_JOB_ID=str(free_port()),
        SLURM_JOB_NUM_NODES="2",
        SLURM_JOB_NODELIST="node[1-2]",
        SLURM_CPUS_PER_TASK="1",
    )
    return [job]


def manifests_of(name: str) -> dict[str, Any]:
    """By their kind."""
    manifests = yaml.safe_load_all((LAUNCH / name).read_text())
    return {manifest["kind"]: manifest for manifest in manifests}


def by_kubernetes(cluster: Cluster, epochs: int) -> Processes:
    of_kind = manifests_of("kubernetes-multinode.yaml")
    service, job = of_kind["Service"]["metadata"]["name"], of_kind["Job"]
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service
    (container,) = pod["containers"]
    # What is from elsewhere, a secret say, has no value here.
    given: dict[str, Any] = {each["name"]: each.get("value") for each in container["env"]}
    assert given["MASTER_ADDR"] == f"{job['metadata']['name']}-0.{service}"
    nodes, ranks_of_node = job["spec"]["completions"], given["LOCAL_WORLD_SIZE"]
    assert int(given["WORLD_SIZE"]) == nodes * int(ranks_of_node)
    assert container["resources"]["limits"]["nvidia.com/gpu"] == ranks_of_node

    here = {"/runs": cluster.folder / "runs", "/cache": cluster.scratch}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {*here, "/dev/shm"}
    command: list[str] = [*container["command"], *container["args"]]
    for inside, outside in here.items():
        command = [part.replace(f"={inside}/", f"={outside}/") for part in command]
    command[command.index("yamls/imagenet_resnet50.yaml")] = "yamls/digits.yaml"
    environment = {name: value for name, value in given.items() if value is not None}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environment |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}
    return [
        cluster.start(
            *[*cluster.node(rank), *command, *cluster.overrides(epochs)],
            **environment,
            NODE_RANK=str(rank),
        )
        for rank in (0, 1)
    ]


@pytest.mark.parametrize(
    "start",
    # Half a minute each.
    [
        by_slurm,
        pytest.param(by_kubernetes, marks=pytest.mark.grid),
        pytest.param(by_torchrun, marks=pytest.mark.grid),
    ],
)
def test_two_nodes_train_one_run(
    start: Callable[[Cluster, int], Processes], cluster: Cluster
) -> None:
    processes = start(cluster, 2)
    said = "\n".join(end(processes))
    assert not any(process.returncode for process in processes), said
    assert said.count("Report: ") == 1, "one rank of all writes it"
    rows = read_run(cluster.run_dir).rows
    assert [row["selected"] for row in rows] == [1437, 719]
    assert sum(rows[-1]["class_selected"].values()) == 719
    for rank in (0, 1):  # each has fetched what it trained on
        assert (cluster.folder / f"disk{rank}" / "train" / "index.json").exists()


def test_a_lost_node_ends_the_other_and_the_same_command_goes_on(cluster: Cluster) -> None:
    processes = by_hand(cluster, 30)
    while not list(cluster.run_dir.glob("checkpoints/ep2-*")):
        assert all(process.poll() is None for process in processes), "\n".join(end(processes))
        time.sleep(0.02)
    switch_off(processes[1])
    for process in processes:
        process.communicate()
    assert processes[0].returncode > 0, "it noticed, and ended by itself"
    done = len(read_run(cluster.run_dir).rows)
    assert done < 30

    processes = by_hand(cluster, done + 2)
    said = "\n".join(end(processes))
    assert not any(process.returncode for process in processes), said
    assert "goes on from" in said
    assert [row["epoch"] for row in read_run(cluster.run_dir).rows] == [*range(done + 2)]


def test_a_node_that_is_alone_says_so_when_it_has_waited_as_long_as_it_was_told(
    cluster: Cluster,
) -> None:
    command = [LAUNCH / "nodes.sh", "yamls/digits.yaml", "trainer.dist_timeout=3"]
    lone = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "NODE_RANK": "0",
        "GPUS": "1",
    }
    process = cluster.start(*cluster.node(0), *command, *cluster.overrides(1), **lone)
    (said,) = end([process])
    assert process.returncode == 1
    # torch adds a second.
    assert "The run cannot start: DistStoreError: Timed out after 4 seconds waiting" in said
    assert not cluster.run_dir.exists()
