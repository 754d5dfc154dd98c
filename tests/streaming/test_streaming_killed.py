# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Killed processes: who is left stops with an error, or goes on; nobody waits for the dead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from epoch_runs import (
    Epoch,
    Outcome,
    kill_a_worker,
    kill_this_rank,
    kill_this_run,
    run_epochs,
)
from killable_streams import DownloadAbandoned, DownloadKilled, PlanKilled
from mds_samples import NUM_SAMPLES, assert_exactly_once, write_shards
from streaming import StreamingDataset

SHARD = "shard.00004.mds"
WORKER_KILLED = r"^RuntimeError: .*DataLoader worker .*(killed|exited unexpectedly)"
KILLED = "ended with exit code -9"
# Who waits for a dead process waits forever.
PATIENCE = 30.0
MANY = pytest.mark.parametrize("persistent", [False, True], ids=["", "persistent"])


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    path = tmp_path / "flag"
    path.touch()
    return path


@pytest.fixture
def remote(tmp_path: Path) -> str:
    return write_shards(tmp_path / "remote")


def assert_complete(outcomes: Sequence[Outcome]) -> None:
    """The ranks have served everything, each sample once."""
    assert [outcome.error for outcome in outcomes] == [""] * len(outcomes)
    batches = chain.from_iterable(outcome.batches for outcome in outcomes)
    assert_exactly_once(batches, range(NUM_SAMPLES), padding=NUM_SAMPLES % len(outcomes))


# ---------------------------------------------------------------------- workers


@MANY
def test_worker_killed_while_it_serves(shards: str, persistent: bool) -> None:
    ((failed, after),) = run_epochs(
        Epoch(during=kill_a_worker),
        Epoch(),
        dataset={"local": shards},
        num_workers=2,
        persistent_workers=persistent,
        patience=PATIENCE,
    )
    assert re.search(WORKER_KILLED, failed.error)
    assert_complete([after])


def test_worker_killed_while_it_downloads(remote: str, tmp_path: Path, flag: Path) -> None:
    stream = DownloadKilled(flag, SHARD, remote=remote, local=str(tmp_path / "local"))
    ((failed, after),) = run_epochs(
        Epoch(), Epoch(), dataset={"streams": [stream]}, num_workers=2, patience=PATIENCE
    )
    assert not flag.exists()
    assert re.search(WORKER_KILLED, failed.error)
    assert_complete([after])


@pytest.mark.parametrize("moment", ["leader", "follower", "reader"])
def test_worker_killed_while_they_meet(shards: str, flag: Path, moment: str) -> None:
    ((failed, after),) = run_epochs(
        Epoch(),
        Epoch(),
        dataset={"local": shards, "flag": flag, "moment": moment},
        dataset_cls=PlanKilled,
        num_workers=2,
        patience=PATIENCE,
    )
    assert not flag.exists()
    assert re.search(WORKER_KILLED, failed.error)
    assert_complete([after])


# ---------------------------------------------------------------------- ranks


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("leader", [True, False], ids=["leader", "follower"])
def test_rank_killed_while_it_serves(shards: str, leader: bool, workers: int) -> None:
    """The other one serves its part, and hears of it where ranks talk to each other."""
    outcomes = run_epochs(
        Epoch(during=kill_this_rank, by=0 if leader else 1),
        dataset={"local": shards},
        ranks=2,
        num_workers=workers,
        patience=PATIENCE,
    )
    killed, left = outcomes if leader else outcomes[::-1]
    assert [outcome.error for outcome in killed] == [KILLED]
    assert left[0].error == ""
    assert len(list(chain(*left[0].batches))) == -(-NUM_SAMPLES // 2)


@pytest.mark.parametrize("moment", ["leader", "follower", "reader"])
def test_rank_killed_while_they_meet(shards: str, flag: Path, moment: str) -> None:
    """Stock code waits forever, unless a launcher ends it."""
    outcomes = run_epochs(
        Epoch(),
        dataset={"local": shards, "flag": flag, "moment": moment},
        dataset_cls=PlanKilled,
        ranks=2,
        patience=PATIENCE,
    )
    assert not flag.exists()
    killed, left = outcomes if moment == "leader" else outcomes[::-1]
    assert [outcome.error for outcome in killed] == [KILLED]
    assert left[0].error


def test_rank_killed_while_it_downloads(remote: str, tmp_path: Path, flag: Path) -> None:
    """Another one that needs the shard says so, or gets it itself."""
    stream = DownloadKilled(flag, SHARD, remote=remote, local=str(tmp_path / "local"))
    outcomes = run_epochs(Epoch(), dataset={"streams": [stream]}, ranks=2, patience=PATIENCE)
    assert not flag.exists()
    assert_other_rank_ends(outcomes)


@pytest.mark.parametrize("moment", ["leader", "follower", "reader", "download"])
def test_worker_of_a_rank_killed(remote: str, tmp_path: Path, flag: Path, moment: str) -> None:
    """Its rank fails, as a script does; then the other one must not wait for it."""
    stream: dict[str, Any] = {"remote": remote, "local": str(tmp_path / "local")}
    plan = {"flag": flag, "moment": moment}
    downloads = moment == "download"
    outcomes = run_epochs(
        Epoch(),
        dataset={"streams": [DownloadKilled(flag, SHARD, **stream)]}
        if downloads
        else stream | plan,
        dataset_cls=StreamingDataset if downloads else PlanKilled,
        ranks=2,
        num_workers=2,
        ends_at_error=True,
        patience=PATIENCE,
    )
    assert not flag.exists()
    assert any(re.search(WORKER_KILLED, of_rank[0].error) for of_rank in outcomes)
    assert_other_rank_ends(outcomes)


def assert_other_rank_ends(outcomes: Sequence[Sequence[Outcome]]) -> None:
    """Every rank has an error or all of its samples."""
    for of_rank in outcomes:
        assert of_rank[0].error or len(list(chain(*of_rank[0].batches))) == -(-NUM_SAMPLES // 2)


def test_workers_of_a_killed_rank_end(remote: str, tmp_path: Path, flag: Path) -> None:
    """Also those that wait for a shard that another process downloads."""
    stream = DownloadAbandoned(flag, SHARD, remote=remote, local=str(tmp_path / "local"))
    outcomes = run_epochs(
        Epoch(during=kill_this_rank),
        dataset={"streams": [stream], "shuffle": False},
        num_workers=2,
        leaves_workers=True,
        patience=PATIENCE,
    )
    assert [outcome.error for outcome in outcomes[0]] == [KILLED]


# ---------------------------------------------------------------------- all of it


@pytest.mark.parametrize("workers", [0, 2])
def test_a_new_run_after_one_that_was_killed(remote: str, tmp_path: Path, workers: int) -> None:
    """What it left in shared memory, in the cache and in locks is no obstacle."""
    dataset = {"remote": remote, "local": str(tmp_path / "local")}
    killed = Epoch(during=kill_this_run)
    ((outcome,),) = run_epochs(killed, dataset=dataset, num_workers=workers)
    assert outcome.error == KILLED
    ((outcome, after),) = run_epochs(Epoch(), Epoch(), dataset=dataset, num_workers=workers)
    assert_complete([outcome])
    assert_complete([after])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_new_run_after_one_that_was_killed_while_it_downloaded(
    remote: str, tmp_path: Path, flag: Path, workers: int
) -> None:
    local = str(tmp_path / "local")
    stream = DownloadKilled(flag, SHARD, remote=remote, local=local)
    killed = run_epochs(
        Epoch(during=kill_this_run), dataset={"streams": [stream]}, num_workers=workers
    )
    assert KILLED in killed[0][-1].error or re.search(WORKER_KILLED, killed[0][0].error)
    dataset = {"remote": remote, "local": local}
    ((outcome,),) = run_epochs(Epoch(), dataset=dataset, num_workers=workers)
    assert_complete([outcome])
