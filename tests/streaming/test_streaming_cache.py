# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What happens to the local files: damage is fetched again or told, and never served."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from disk_faults import empty, enlarge, flip, halve, halve_all, lengthen, limit_files, mount
from epoch_runs import Epoch, Outcome, run_epochs
from mds_samples import (
    NUM_SAMPLES,
    assert_exactly_once,
    columns_of,
    make_attached,
    write_shards,
)
from streaming import MDSWriter

SHARD = "shard.00004.mds"
WORKERS = pytest.mark.parametrize(
    ("ranks", "loader"),
    [
        (1, {"num_workers": 0}),
        (1, {"num_workers": 2}),
        (1, {"num_workers": 2, "persistent_workers": True}),
        (2, {"num_workers": 0}),
    ],
    ids=["0", "2", "2 persistent", "two ranks"],
)


@pytest.fixture
def remote(tmp_path: Path) -> str:
    return write_shards(tmp_path / "remote")


@pytest.fixture
def local(tmp_path: Path) -> Path:
    return tmp_path / "local"


def assert_complete(outcomes: Sequence[Outcome]) -> None:
    """The ranks have served everything, each sample once."""
    assert [outcome.error for outcome in outcomes] == [""] * len(outcomes)
    batches = chain.from_iterable(outcome.batches for outcome in outcomes)
    assert_exactly_once(batches, range(NUM_SAMPLES), padding=NUM_SAMPLES % len(outcomes))


def assert_all_complete(outcomes: Sequence[Sequence[Outcome]]) -> None:
    for of_ranks in zip(*outcomes, strict=True):
        assert_complete(of_ranks)


# ---------------------------------------------------------------------- cut short


DAMAGES = pytest.mark.parametrize("damage", [empty, halve, lengthen])


@WORKERS
@DAMAGES
def test_damaged_before_the_dataset_is_made(
    remote: str,
    local: Path,
    ranks: int,
    loader: dict[str, Any],
    damage: Callable[[Path], None],
) -> None:
    shutil.copytree(remote, local)
    damage(local / SHARD)
    dataset = {"remote": remote, "local": str(local)}
    assert_all_complete(run_epochs(Epoch(), Epoch(), dataset=dataset, ranks=ranks, **loader))


@WORKERS
def test_damaged_between_epochs(
    remote: str, local: Path, ranks: int, loader: dict[str, Any]
) -> None:
    """Also where another process has the file open."""
    dataset = {"remote": remote, "local": str(local)}
    epochs = (Epoch(), Epoch(before=partial(halve, local / SHARD)), Epoch())
    assert_all_complete(run_epochs(*epochs, dataset=dataset, ranks=ranks, **loader))


@WORKERS
def test_damaged_during_an_epoch(
    remote: str, local: Path, ranks: int, loader: dict[str, Any]
) -> None:
    """It ends with everything served, or says why not; and the next one is complete."""
    dataset = {"remote": remote, "local": str(local)}
    epochs = (Epoch(), Epoch(during=partial(halve_all, local)), Epoch())
    outcomes = run_epochs(*epochs, dataset=dataset, ranks=ranks, **loader)
    before, during, after = zip(*outcomes, strict=True)
    assert_complete(before)
    if any(outcome.error for outcome in during):
        for outcome in during:
            assert not outcome.error or re.search(r"shard\.0000\d\.mds", outcome.error)
    else:
        assert_complete(during)
    assert_complete(after)


@WORKERS
@DAMAGES
def test_damaged_without_a_remote(
    local: Path, ranks: int, loader: dict[str, Any], damage: Callable[[Path], None]
) -> None:
    write_shards(local)
    damage(local / SHARD)
    outcomes = run_epochs(Epoch(), dataset={"local": str(local)}, ranks=ranks, **loader)
    for (outcome,) in outcomes:
        assert re.search(rf"{SHARD}.*bytes, but the index says", outcome.error)
    assert (local / SHARD).exists()  # it is the only copy


def test_a_sample_that_was_cut_off_is_not_served_shorter(tmp_path: Path) -> None:
    """Nothing else would tell, where its last column is text."""
    columns = {"id": "int", "text": "str"}
    with MDSWriter(out=str(tmp_path / "remote"), columns=columns) as out:
        for sample_id in range(20):
            out.write({"id": sample_id, "text": f"the text of sample {sample_id}"})
    dataset = {"remote": str(tmp_path / "remote"), "local": str(tmp_path / "local")}
    attachment, _ = make_attached(None, dataset=dataset)
    assert attachment.raw_sample(0)["text"] == "the text of sample 0"
    path = tmp_path / "local" / "shard.00000.mds"
    os.truncate(path, path.stat().st_size - 5)
    assert attachment.raw_sample(19)["text"] == "the text of sample 19"


# ---------------------------------------------------------------------- of another hash


@WORKERS
def test_wrong_hash_in_the_cache(
    tmp_path: Path, local: Path, ranks: int, loader: dict[str, Any]
) -> None:
    """As after a run that was killed before it validated a download."""
    remote = write_shards(tmp_path / "hashed", hashes=["xxh64"])
    shutil.copytree(remote, local)
    flip(local / SHARD)
    hashed = {"remote": remote, "local": str(local), "validate_hash": "xxh64"}
    assert_all_complete(run_epochs(Epoch(), Epoch(), dataset=hashed, ranks=ranks, **loader))
    assert (local / SHARD).read_bytes() == Path(remote, SHARD).read_bytes()


@WORKERS
def test_wrong_hash_of_the_only_copy(local: Path, ranks: int, loader: dict[str, Any]) -> None:
    write_shards(local, hashes=["sha1"])
    flip(local / SHARD)
    hashed = {"local": str(local), "validate_hash": "sha1"}
    outcomes = run_epochs(Epoch(), dataset=hashed, ranks=ranks, **loader)
    for (outcome,) in outcomes:
        assert re.search(rf"{SHARD} has the sha1 .* no remote copy", outcome.error)
    assert (local / SHARD).exists()


# Streaming leaves the file that it hashes to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("raw", [False, True])
def test_wrong_hash_of_samples_that_are_asked_for(tmp_path: Path, local: Path, raw: bool) -> None:
    remote = write_shards(tmp_path / "hashed", hashes=["xxh64"])
    shutil.copytree(remote, local)
    flip(local / SHARD)
    hashed = {"remote": remote, "local": str(local), "validate_hash": "xxh64"}
    attachment, loader = make_attached(None, dataset=hashed)
    for sample_id in range(NUM_SAMPLES):
        sample = attachment.raw_sample(sample_id) if raw else loader.dataset[sample_id]
        assert sample == columns_of(sample_id)
    assert (local / SHARD).read_bytes() == Path(remote, SHARD).read_bytes()


def test_hash_that_the_index_does_not_have(local: Path) -> None:
    write_shards(local, hashes=["sha1"])
    with pytest.raises(ValueError, match=r"hashes=\{'sha1'.*validate_hash='xxh64'"):
        make_attached(str(local), dataset={"validate_hash": "xxh64"})


# ---------------------------------------------------------------------- gone


def remove(folder: Path) -> None:
    """Others write into it meanwhile."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


@WORKERS
def test_cache_folder_deleted_during_an_epoch(
    remote: str, local: Path, ranks: int, loader: dict[str, Any]
) -> None:
    dataset = {"remote": remote, "local": str(local)}
    epochs = (Epoch(during=partial(remove, local)), Epoch())
    assert_all_complete(run_epochs(*epochs, dataset=dataset, ranks=ranks, **loader))


@WORKERS
def test_cache_folder_deleted_between_epochs(
    remote: str, local: Path, ranks: int, loader: dict[str, Any]
) -> None:
    dataset = {"remote": remote, "local": str(local)}
    epochs = (Epoch(), Epoch(before=partial(shutil.rmtree, local)))
    assert_all_complete(run_epochs(*epochs, dataset=dataset, ranks=ranks, **loader))


@WORKERS
def test_only_copy_deleted_between_epochs(local: Path, ranks: int, loader: dict[str, Any]) -> None:
    write_shards(local)
    epochs = (Epoch(), Epoch(before=(local / SHARD).unlink))
    outcomes = run_epochs(*epochs, dataset={"local": str(local)}, ranks=ranks, **loader)
    before, failed = zip(*outcomes, strict=True)
    assert_complete(before)
    for outcome in failed:
        assert re.search(rf"{SHARD}.*is not there, and there is no remote copy", outcome.error)


# ---------------------------------------------------------------------- no space

# The second shard is larger than what there is space for.
SIZES = (13, 2000, 7)
SPACE = 30_000


@pytest.fixture
def large(tmp_path: Path) -> str:
    return write_shards(tmp_path / "remote", SIZES)


@pytest.fixture
def small_disk(local: Path) -> Iterator[Path]:
    local.mkdir()
    if obstacle := mount(local, SPACE):
        pytest.skip(f"no disk can be mounted: {obstacle.strip()}")
    yield local
    subprocess.run(["umount", "--lazy", str(local)], check=True)


def assert_out_of_space(outcomes: Sequence[Sequence[Outcome]], cause: str) -> None:
    ((failed, after),) = outcomes
    assert "shard.00001.mds" in failed.error and cause in failed.error
    assert not set(chain.from_iterable(failed.batches)) & set(range(13, 2013))
    assert after.error == ""
    assert_exactly_once(after.batches, range(sum(SIZES)))


@pytest.mark.parametrize("workers", [0, 2])
def test_disk_full_and_the_way_back(large: str, small_disk: Path, workers: int) -> None:
    everything = range(sum(SIZES))
    outcomes = run_epochs(
        Epoch(everything),
        Epoch(everything, before=partial(enlarge, small_disk)),
        dataset={"remote": large, "local": str(small_disk), "download_retry": 1},
        num_workers=workers,
    )
    assert_out_of_space(outcomes, "No space left on device")


@pytest.mark.parametrize("workers", [0, 2])
def test_file_size_limit_and_the_way_back(large: str, local: Path, workers: int) -> None:
    everything = range(sum(SIZES))
    outcomes = run_epochs(
        Epoch(everything, before=partial(limit_files, SPACE)),
        Epoch(everything, before=partial(limit_files, resource.RLIM_INFINITY)),
        dataset={"remote": large, "local": str(local), "download_retry": 1},
        num_workers=workers,
    )
    assert_out_of_space(outcomes, "File too large")


# Prints what an epoch over a folder ends with in little shared memory, and the next one in more.
TWO_EPOCHS = """
import subprocess
import sys
from streaming import StreamingDataset
from composer_dataagent.streaming import attach

dataset = StreamingDataset(local=sys.argv[1], batch_size=8)
attach(dataset).serve_always(range(dataset.num_samples))
for size in ("200k", "2m"):
    subprocess.run(["mount", "-o", f"remount,size={size}", "/dev/shm"], check=True)
    try:
        print(sum(1 for _ in dataset), "samples")
    except OSError as error:
        print(error)
"""


def test_little_shared_memory_and_the_way_back(local: Path) -> None:
    """Written to without looking, it ends the process with SIGBUS."""
    write_shards(local, [40_000])
    mounted = 'mount -t tmpfs tmpfs /dev/shm || exit 77; exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mounted, "sh"]
    try:
        done = subprocess.run(
            [*command, sys.executable, "-c", TWO_EPOCHS, str(local)],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        pytest.skip(str(error))
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no memory of its own can be mounted: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    little, more = done.stdout.splitlines()
    assert re.search(r"320,000 bytes of shared memory.*No space left.*--shm-size", little)
    assert more == "40000 samples"
