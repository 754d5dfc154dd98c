# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong stops the run with its cause, in bounded time; what did not go wrong does not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mds_samples import (
    BATCH,
    NUM_SAMPLES,
    SHARDS,
    assert_exactly_once,
    assert_fails,
    draw,
    make_attached,
    served,
    write_shards,
)
from streaming import Stream, StreamingDataset

from composer_dataagent.streaming import (
    Attachment,
    SelectionCorruptError,
    SelectionError,
    SelectionMissingError,
    ShortEpochError,
)

WORKERS = pytest.mark.parametrize(
    "workers",
    [
        {"num_workers": 0},
        {"num_workers": 2},
        {"num_workers": 2, "persistent_workers": True},
    ],
    ids=["0", "2", "2 persistent"],
)


def selection_file(attachment: Attachment) -> Path:
    (path,) = Path(attachment.dataset.selection_store.folder).iterdir()
    return path


# ---------------------------------------------------------------------- selections


@WORKERS
def test_missing_selection_and_the_way_back(shards: str, workers: dict[str, Any]) -> None:
    attachment, loader = make_attached(shards, **workers)
    assert_fails(loader, SelectionMissingError, r"No selection was published for streaming epoch 0")
    selected = draw(40, 0)
    assert attachment.serve(selected).epoch == 1
    assert_exactly_once(served(loader), selected)


def test_an_iteration_from_elsewhere_moves_the_epoch_on(shards: str) -> None:
    attachment, loader = make_attached(shards)
    attachment.serve(range(40))
    next(iter(attachment.dataset))
    assert_fails(loader, SelectionMissingError, r"streaming epoch 1 .*something else iterated")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1 << 7
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9])


def header_alone(path: Path) -> None:
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def another_json(path: Path) -> None:
    path.write_bytes(b"[1, 2]\n" + path.read_bytes().split(b"\n", 1)[1])


def another_size(path: Path) -> None:
    header, bits = path.read_bytes().split(b"\n", 1)
    record = json.loads(header)
    record["size"] += 1
    path.write_bytes(json.dumps(record).encode() + b"\n" + bits)


def of_another_epoch(path: Path) -> None:
    path.rename(path.with_name("kept"))
    path.write_bytes(path.with_name("kept").read_bytes().replace(b'"epoch": 0', b'"epoch": 7'))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        cut_off,
        cut_in_the_header,
        header_alone,
        empty,
        noise,
        another_json,
        another_size,
        of_another_epoch,
    ],
)
def test_damaged_selection(shards: str, damage: Callable[[Path], None]) -> None:
    attachment, loader = make_attached(shards)
    attachment.serve(range(40))
    damage(selection_file(attachment))
    assert_fails(loader, SelectionCorruptError, r"selection file")


@WORKERS
def test_selection_damaged_after_it_was_published(shards: str, workers: dict[str, Any]) -> None:
    attachment, loader = make_attached(shards, **workers)
    attachment.serve_always(range(40))
    served(loader)
    flip_a_bit(selection_file(attachment))
    assert_fails(loader, SelectionCorruptError, r"does not match its digest")


def test_selection_of_another_dataset(shards: str, tmp_path: Path) -> None:
    foreign, _ = make_attached(write_shards(tmp_path, [NUM_SAMPLES + 1]))
    foreign.serve(range(40))
    attachment, loader = make_attached(shards)
    attachment.serve(range(40))
    shutil.copy(selection_file(foreign), selection_file(attachment))
    assert_fails(loader, SelectionCorruptError, rf"of {NUM_SAMPLES + 1} samples")


# ---------------------------------------------------------------------- shards


def remote_and_local(tmp_path: Path, **writer: Any) -> tuple[Path, Path]:
    return Path(write_shards(tmp_path / "remote", **writer)), tmp_path / "local"


@WORKERS
def test_shard_missing_at_the_remote_and_the_way_back(
    tmp_path: Path, workers: dict[str, Any]
) -> None:
    remote, local = remote_and_local(tmp_path)
    attachment, loader = make_attached(str(local), dataset={"remote": str(remote)}, **workers)
    shard = remote / "shard.00003.mds"
    away = shard.rename(tmp_path / "away")
    attachment.serve(range(NUM_SAMPLES))
    assert_fails(loader, ShortEpochError, r"Epoch 0 ended after.*shard\.00003\.mds")
    away.rename(shard)
    attachment.serve(range(NUM_SAMPLES))
    assert_exactly_once(served(loader), range(NUM_SAMPLES))


@WORKERS
def test_a_missing_shard_without_selected_samples_is_no_error(
    tmp_path: Path, workers: dict[str, Any]
) -> None:
    remote, local = remote_and_local(tmp_path)
    attachment, loader = make_attached(str(local), dataset={"remote": str(remote)}, **workers)
    (remote / "shard.00000.mds").unlink()
    attachment.serve(range(SHARDS[0], NUM_SAMPLES))
    assert_exactly_once(served(loader), range(SHARDS[0], NUM_SAMPLES))


@WORKERS
def test_local_shard_deleted_between_epochs(tmp_path: Path, workers: dict[str, Any]) -> None:
    attachment, loader = make_attached(write_shards(tmp_path), **workers)
    attachment.serve(range(NUM_SAMPLES))
    served(loader)
    (tmp_path / "shard.00002.mds").unlink()
    attachment.serve(range(NUM_SAMPLES))
    assert_fails(loader, SelectionError, r"shard\.00002\.mds.*is not available")


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # stock code, checking hashes
@WORKERS
def test_shard_with_a_wrong_hash_is_neither_served_nor_kept(
    tmp_path: Path, workers: dict[str, Any]
) -> None:
    remote, local = remote_and_local(tmp_path, hashes=["sha1"])
    attachment, loader = make_attached(
        str(local), dataset={"remote": str(remote), "validate_hash": "sha1"}, **workers
    )
    shard = remote / "shard.00002.mds"
    sound = shard.read_bytes()
    flip_a_bit(shard)
    attachment.serve(range(NUM_SAMPLES))
    assert_fails(loader, ShortEpochError, r"shard\.00002\.mds.*Checksum failure")
    assert not (local / shard.name).exists()
    shard.write_bytes(sound)
    attachment.serve(range(NUM_SAMPLES))
    assert_exactly_once(served(loader), range(NUM_SAMPLES))


@WORKERS
def test_truncated_shard(tmp_path: Path, workers: dict[str, Any]) -> None:
    shards = write_shards(tmp_path)
    attachment, loader = make_attached(shards, **workers)
    shard = tmp_path / "shard.00004.mds"
    shard.write_bytes(shard.read_bytes()[:40])
    attachment.serve(range(NUM_SAMPLES))
    assert_fails(loader, Exception, r"\S")


class Gated(Stream):
    """Downloads of one shard wait while the file ``gate`` exists, having written who waits."""

    gate: Path
    shard: str

    def _download_file(self, from_basename: str, to_basename: str | None = None) -> str:
        if from_basename == self.shard and self.gate.exists():
            self.gate.with_name(f"waiting-{os.getpid()}").touch()
            while self.gate.exists():
                time.sleep(0.01)
        return super()._download_file(from_basename, to_basename)


@pytest.fixture
def gated(tmp_path: Path) -> Gated:
    """A stream whose fourth shard is held back."""
    remote, local = remote_and_local(tmp_path)
    stream = Gated(remote=str(remote), local=str(local))
    stream.gate, stream.shard = tmp_path / "gate", "shard.00003.mds"
    stream.gate.touch()
    return stream


class Late(StreamingDataset):
    """Lets the background thread fail after its sample was announced and before it is read."""

    def __getitem__(self, at: Any) -> Any:
        for stream in self.streams:
            assert isinstance(stream, Gated)
            stream.gate.unlink(missing_ok=True)
        while not self._event.is_set():
            time.sleep(0.01)
        return super().__getitem__(at)


def test_a_failure_while_a_sample_is_read(gated: Gated) -> None:
    assert gated.remote is not None
    Path(gated.remote, gated.shard).unlink()
    attachment, loader = make_attached(None, Late, dataset={"streams": [gated], "shuffle": False})
    attachment.serve(range(NUM_SAMPLES))
    assert_fails(loader, ShortEpochError, r"after 0 of the 97.*shard\.00003\.mds")


def test_a_failure_after_breaking_out_early(gated: Gated, tmp_path: Path) -> None:
    assert gated.remote is not None
    shard = Path(gated.remote, gated.shard)
    away = shard.rename(tmp_path / "away")
    attachment, loader = make_attached(None, dataset={"streams": [gated], "shuffle": False})
    attachment.serve_always(range(NUM_SAMPLES))
    next(iter(loader))
    gated.gate.unlink()
    while not attachment.dataset._event.is_set():
        time.sleep(0.01)
    away.rename(shard)
    assert_exactly_once(served(loader), range(NUM_SAMPLES))


def test_a_worker_killed_while_it_downloads(gated: Gated, tmp_path: Path) -> None:
    """Its shard is left "preparing"; the next epoch must not wait for it."""
    attachment, loader = make_attached(None, dataset={"streams": [gated]}, num_workers=2)
    attachment.serve(range(NUM_SAMPLES))

    def kill() -> None:
        while not (waiting := list(tmp_path.glob("waiting-*"))):
            time.sleep(0.01)
        os.kill(int(waiting[0].name.removeprefix("waiting-")), signal.SIGKILL)
        gated.gate.unlink()

    killer = threading.Thread(target=kill)
    killer.start()
    assert_fails(loader, RuntimeError, r"DataLoader worker \(pid")
    killer.join()
    attachment.serve(range(NUM_SAMPLES))
    assert_exactly_once(served(loader), range(NUM_SAMPLES))


# ---------------------------------------------------------------------- no faults


@WORKERS
def test_breaking_out_early_is_no_error(shards: str, workers: dict[str, Any]) -> None:
    attachment, loader = make_attached(shards, **workers)
    for epoch in range(3):
        attachment.serve(draw(60, epoch))
        next(iter(loader))
    attachment.serve(draw(60, 3))
    assert_exactly_once(served(loader), draw(60, 3))


def test_an_iteration_that_a_newer_one_ended_says_so(shards: str) -> None:
    attachment, loader = make_attached(shards, dataset={"predownload": BATCH})
    attachment.serve_always(range(60))
    old = iter(attachment.dataset)
    next(old)
    assert_exactly_once(served(loader), range(60))
    with pytest.raises(ShortEpochError, match=r"Another iteration .* make a dataset for each"):
        list(old)


class Stopping(StreamingDataset):
    def __getitem__(self, at: Any) -> Any:
        if at == 30:
            raise StopIteration
        return super().__getitem__(at)


@WORKERS
def test_a_dataset_that_stops_the_iteration(shards: str, workers: dict[str, Any]) -> None:
    attachment, loader = make_attached(shards, Stopping, **workers)
    attachment.serve(range(60))
    assert_fails(loader, RuntimeError, "Sample 30: the dataset raised StopIteration")
    attachment.serve(range(30))
    assert_exactly_once(served(loader), range(30))


class Interrupting:
    """A collate function that is interrupted once, as by Ctrl-C."""

    def __init__(self) -> None:
        self.done = False

    def __call__(self, samples: list[Any]) -> Any:
        if not self.done:
            self.done = True
            signal.raise_signal(signal.SIGINT)
        from torch.utils.data import default_collate

        return default_collate(samples)


@pytest.fixture
def python_interrupts() -> Iterator[None]:
    """Composer, once imported, turns Ctrl-C into an exit."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("python_interrupts")
def test_after_an_interrupt_the_next_epoch_runs(shards: str) -> None:
    attachment, loader = make_attached(shards, collate_fn=Interrupting())
    attachment.serve(range(60))
    with pytest.raises(KeyboardInterrupt):
        served(loader)
    attachment.serve(range(50))
    assert_exactly_once(served(loader), range(50))
