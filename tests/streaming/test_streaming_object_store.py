# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""An object store that fails for a moment costs nothing; one that fails for good ends the epoch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from epoch_runs import Epoch, Outcome, run_epochs
from grid_marks import grid
from mds_samples import NUM_SAMPLES, SHARDS, assert_exactly_once
from object_store import Fault, ObjectStore

SHARD = "shard.00004.mds"
OF_SHARD = range(sum(SHARDS[:4]), sum(SHARDS[:5]))
RANKS = 2
INDEX = "index.json"


def arguments(remotes: dict[str, str], kind: str, folder: Path, **more: Any) -> dict[str, Any]:
    """Of a dataset that checks all that its shards allow to check."""
    hashed = {"validate_hash": "sha1"} if "hashed" in kind else {}
    return {"remote": remotes[kind], "local": str(folder / "local"), **hashed, **more}


def assert_complete(outcomes: Sequence[Outcome]) -> None:
    """The ranks have served everything, each sample once."""
    assert [outcome.error for outcome in outcomes] == [""] * len(outcomes)
    batches = chain.from_iterable(outcome.batches for outcome in outcomes)
    assert_exactly_once(batches, range(NUM_SAMPLES), padding=NUM_SAMPLES % len(outcomes))


TRANSIENT = {
    "two 500": ("plain", Fault(SHARD, "status", 500, 2), {}),
    "two 503": ("plain", Fault(SHARD, "status", 503, 2), {}),
    # The client's own attempts are used up, and streaming's begin.
    "five 500": ("plain", Fault(SHARD, "status", 500, 5), {}),
    "five 503": ("plain", Fault(SHARD, "status", 503, 5), {}),
    "cut once": ("plain", Fault(SHARD, "cut", 100, 1), {}),
    "cut six times": ("plain", Fault(SHARD, "cut", 100, 6), {}),
    "truncated": ("plain", Fault(SHARD, "truncate", 100, 1), {}),
    "empty": ("plain", Fault(SHARD, "truncate", 0, 1), {}),
    "truncated, hashed": ("hashed", Fault(SHARD, "truncate", 100, 1), {}),
    "truncated, zipped": ("zipped", Fault(SHARD, "truncate", 100, 1), {}),
    "flipped, hashed": ("hashed", Fault(SHARD, "flip", 500, 1), {}),
    "flipped, zipped": ("zipped and hashed", Fault(SHARD, "flip", 50, 1), {}),
    "slow": ("plain", Fault(SHARD, "delay", 0.5, 2), {}),
    "too slow": ("plain", Fault(SHARD, "delay", 2, 2), {"download_timeout": 0.5}),
}


# Attempts are counted in the process that downloads, worker or not: a few of them do for both.
IN_WORKERS = ("five 500", "truncated", "flipped, zipped")


@pytest.mark.parametrize(
    ("name", "workers"), [(name, 0) for name in TRANSIENT] + [(name, 2) for name in IN_WORKERS]
)
def test_transient(
    store: ObjectStore, remotes: dict[str, str], tmp_path: Path, name: str, workers: int
) -> None:
    kind, fault, settings = TRANSIENT[name]
    store.break_down(fault)
    dataset = arguments(remotes, kind, tmp_path, download_retry=3, **settings)
    ((outcome,),) = run_epochs(
        Epoch(), dataset=dataset, num_workers=workers, environment=store.environment
    )
    assert_complete([outcome])
    assert store.faults_left() == []  # it did happen


@pytest.mark.parametrize("workers", [2])
def test_connections_refused_for_a_moment(
    store: ObjectStore, remotes: dict[str, str], tmp_path: Path, workers: int
) -> None:
    # The attempts go on for at least 1 + 2 + 4 seconds.
    dataset = arguments(remotes, "plain", tmp_path, download_retry=4)
    refuse = Epoch(before=partial(store.refuse, 0.5))
    ((outcome,),) = run_epochs(
        refuse, dataset=dataset, num_workers=workers, environment=store.environment
    )
    assert_complete([outcome])


@pytest.mark.parametrize("workers", [0, 2])
def test_transient_on_two_ranks(
    store: ObjectStore, remotes: dict[str, str], tmp_path: Path, workers: int
) -> None:
    store.break_down(Fault(SHARD, "truncate", 100, 1), Fault("shard", "status", 500, 4))
    outcomes = run_epochs(
        Epoch(),
        dataset=arguments(remotes, "plain", tmp_path, download_retry=4),
        ranks=RANKS,
        num_workers=workers,
        environment=store.environment,
    )
    assert_complete([outcome for (outcome,) in outcomes])
    assert store.faults_left() == []


PERMANENT = {
    "404": ("plain", Fault(SHARD, "status", 404), {}, "not found"),
    "403": ("plain", Fault(SHARD, "status", 403), {}, "permission"),
    "500": ("plain", Fault(SHARD, "status", 500), {}, r"\(500\)"),
    "503": ("plain", Fault(SHARD, "status", 503), {}, r"\(503\)"),
    "cut": ("plain", Fault(SHARD, "cut", 100), {}, r"IncompleteRead|connection"),
    "truncated": ("plain", Fault(SHARD, "truncate", 100), {}, r"has 100 bytes"),
    "empty": ("plain", Fault(SHARD, "truncate", 0), {}, r"has 0 bytes"),
    "truncated, hashed": ("hashed", Fault(SHARD, "truncate", 100), {}, "Checksum failure"),
    "truncated, zipped": ("zipped", Fault(SHARD, "truncate", 100), {}, "(?i)zstd|decompress"),
    "flipped, hashed": ("hashed", Fault(SHARD, "flip", 500), {}, "Checksum failure"),
    "flipped, zipped": ("zipped and hashed", Fault(SHARD, "flip", 50), {}, "Checksum failure"),
    "too slow": ("plain", Fault(SHARD, "delay", 2), {"download_timeout": 0.5}, "timeout"),
}
# Some for each way to fail: no download, a file that is wrong, and one that cannot be unpacked.
IN_SEVERAL = ("404", "500", "truncated", "flipped, hashed", "truncated, zipped")


@pytest.mark.parametrize(
    ("name", "ranks", "workers"),
    grid(
        itertools.product(PERMANENT, [1], [0, 2]),
        [*itertools.product(PERMANENT, [1], [0]), *itertools.product(IN_SEVERAL, [1], [2])],
    )
    + [(name, RANKS, 0) for name in IN_SEVERAL],
)
def test_permanent_and_the_way_back(
    store: ObjectStore,
    remotes: dict[str, str],
    tmp_path: Path,
    name: str,
    ranks: int,
    workers: int,
) -> None:
    kind, fault, settings, cause = PERMANENT[name]
    store.break_down(fault)
    outcomes = run_epochs(
        Epoch(),
        Epoch(before=store.mend),
        dataset=arguments(remotes, kind, tmp_path, download_retry=1, **settings),
        ranks=ranks,
        num_workers=workers,
        environment=store.environment,
    )
    for failed, _ in outcomes:  # all ranks have samples of that shard
        assert re.search(cause, failed.error)
        assert SHARD in failed.error and remotes[kind] in failed.error
        assert not set(chain.from_iterable(failed.batches)) & set(OF_SHARD)
    assert_complete([after for _, after in outcomes])


@pytest.mark.parametrize(("ranks", "workers"), [(1, 2), (RANKS, 0)], ids=["2", "two ranks"])
def test_every_shard_missing(
    store: ObjectStore, remotes: dict[str, str], tmp_path: Path, ranks: int, workers: int
) -> None:
    store.break_down(Fault("shard", "status", 404))
    outcomes = run_epochs(
        Epoch(),
        Epoch(before=store.mend),
        dataset=arguments(remotes, "plain", tmp_path, download_retry=1),
        ranks=ranks,
        num_workers=workers,
        environment=store.environment,
    )
    for failed, _ in outcomes:
        assert "not found" in failed.error
    assert_complete([after for _, after in outcomes])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_shard_without_selected_samples_is_never_asked_for(
    store: ObjectStore, remotes: dict[str, str], tmp_path: Path, workers: int
) -> None:
    store.break_down(Fault(SHARD, "status", 404))
    selected = [*range(OF_SHARD.start), *range(OF_SHARD.stop, NUM_SAMPLES)]
    ((outcome,),) = run_epochs(
        Epoch(selected),
        dataset=arguments(remotes, "plain", tmp_path),
        num_workers=workers,
        environment=store.environment,
    )
    assert outcome.error == ""
    assert_exactly_once(outcome.batches, selected)
    assert store.requests(SHARD) == []


# ---------------------------------------------------------------------- the index

UNREACHABLE = {
    "404": (Fault(INDEX, "status", 404), "not found"),
    "403": (Fault(INDEX, "status", 403), "permission"),
    "500": (Fault(INDEX, "status", 500), r"\(500\)"),
    "503": (Fault(INDEX, "status", 503), r"\(503\)"),
    "cut": (Fault(INDEX, "cut", 100), r"(?i)incompleteread|retries"),
}
DAMAGED = {
    "truncated": (Fault(INDEX, "truncate", 100), "index.json is empty or corrupted"),
    "empty": (Fault(INDEX, "truncate", 0), "index.json is empty or corrupted"),
    "garbage": (Fault(INDEX, "flip", 0), "UnicodeDecodeError"),
}


@pytest.mark.parametrize(
    ("name", "ranks"), [(name, 1) for name in UNREACHABLE] + [("404", RANKS), ("cut", RANKS)]
)
def test_index_that_cannot_be_had_and_the_way_back(
    store: ObjectStore, remotes: dict[str, str], tmp_path: Path, name: str, ranks: int
) -> None:
    """Stock code says this; here it is not made worse."""
    fault, cause = UNREACHABLE[name]
    store.break_down(fault)
    outcomes = run_epochs(
        Epoch(),
        Epoch(before=store.mend),
        dataset=arguments(remotes, "plain", tmp_path, download_retry=1, download_timeout=2),
        ranks=ranks,
        environment=store.environment,
    )
    assert re.search(cause, outcomes[0][0].error)
    for failed, _ in outcomes[1:]:
        assert re.search(r"index\.json.* took too long to download", failed.error)
    assert_complete([after for _, after in outcomes])


def remove_the_index(folder: Path, store: ObjectStore) -> None:
    store.mend()
    (folder / "local" / INDEX).unlink()


@pytest.mark.parametrize("ranks", [1, RANKS])
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_index_is_refused_and_the_way_back(
    store: ObjectStore, remotes: dict[str, str], tmp_path: Path, name: str, ranks: int
) -> None:
    """Stock code does so, and leaves it in the cache, from where it must be deleted.

    It comes at once, so nobody waits: the timeout is for machines that have much else to do.
    """
    fault, cause = DAMAGED[name]
    store.break_down(fault)
    outcomes = run_epochs(
        Epoch(),
        Epoch(before=partial(remove_the_index, tmp_path, store)),
        dataset=arguments(remotes, "plain", tmp_path, download_retry=1, download_timeout=60),
        ranks=ranks,
        environment=store.environment,
    )
    for failed, _ in outcomes:
        assert cause in failed.error
    assert_complete([after for _, after in outcomes])
