# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Only what is selected is fetched, and nothing else is ever served for it."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from epoch_runs import Epoch, Outcome, kill_a_worker, kill_this_run, run_epochs
from hypothesis import given, settings
from hypothesis import strategies as st
from mds_samples import (
    NUM_SAMPLES,
    SHARDS,
    assert_exactly_once,
    draw,
    make_attached,
    make_dataset,
    make_loader,
    served,
    write_shards,
)
from object_store import Fault, ObjectStore
from obstore.store import LocalStore
from own_mounts import apart
from streaming import MDSWriter, Stream, StreamingDataLoader, StreamingDataset

from composer_dataagent.streaming import attach, select
from composer_dataagent.streaming.ahead import wait_for_ahead
from composer_dataagent.streaming.costs import Costs
from composer_dataagent.streaming.spans import coalesce, header_size
from composer_dataagent.streaming.tally import Egress

SHARD = "shard.00004.mds"
OF_SHARD = range(sum(SHARDS[:4]), sum(SHARDS[:5]))
# The samples are so small that a request costs more than a shard.
FREE_REQUESTS = {"dollars_per_million_requests": 0}
RANGED: dict[str, Any] = {"fetch": "samples", "costs": FREE_REQUESTS}
WORKERS = pytest.mark.parametrize("workers", [0, 2])


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shards of samples of different sizes, each larger than a block of the disk."""
    folder = tmp_path_factory.mktemp("large")
    with MDSWriter(out=str(folder), columns={"id": "int", "x": "bytes"}, size_limit=300_000) as out:
        for i in range(200):
            out.write({"id": i, "x": content(i)})
    return str(folder)


def content(sample_id: int) -> bytes:
    rng = np.random.default_rng(sample_id)
    return rng.bytes(int(rng.integers(6_000, 20_000)))


def make_large(
    remote: str,
    local: Path,
    workers: int = 0,
    fetch: str | None = "samples",
    kind: type[StreamingDataset] = StreamingDataset,
    **dataset: Any,
) -> tuple[Any, Any]:
    made = kind(remote=remote, local=str(local), batch_size=4, shuffle=True, **dataset)
    loader = StreamingDataLoader(
        made,
        batch_size=4,
        num_workers=workers,
        collate_fn=list,
        multiprocessing_context="fork" if workers else None,
    )
    return attach(made, loader, fetch=fetch, costs=FREE_REQUESTS), loader


def served_large(loader: Any) -> list[int]:
    samples = list(chain.from_iterable(loader))
    for sample in samples:
        assert sample["x"] == content(sample["id"])
    return [sample["id"] for sample in samples]


def size_of(folder: str, ids: Any) -> int:
    """Bytes of samples and of the headers of their shards."""
    total = first = 0
    for shard in json.loads(Path(folder, "index.json").read_text())["shards"]:
        raw = Path(folder, shard["raw_data"]["basename"]).read_bytes()
        offsets = np.frombuffer(raw, np.uint32, shard["samples"] + 1, 4).astype(np.int64)
        inside = [i - first for i in ids if first <= i < first + shard["samples"]]
        first += shard["samples"]
        total += sum(int(offsets[i + 1] - offsets[i]) for i in inside)
        total += header_size(shard["samples"]) if inside else 0
    return total


def on_disk(folder: Path) -> int:
    return sum(512 * p.stat().st_blocks for p in folder.rglob("*.mds"))


# ---------------------------------------------------------------------- the pure core


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    bits=st.lists(st.booleans(), min_size=40, max_size=40),
    gap=st.integers(0, 120),
)
def test_ranges_hold_the_samples_and_no_more_than_gaps(
    sizes: list[int], bits: list[bool], gap: int
) -> None:
    offsets = 100 + np.concatenate([[0], np.cumsum(sizes)])
    chosen = np.flatnonzero(bits[: len(sizes)])
    spans = coalesce(chosen, offsets, gap)
    wanted = {b for i in chosen for b in range(offsets[i], offsets[i + 1])}
    read = [b for begin, end in spans for b in range(begin, end)]
    assert len(read) == len(set(read)) and wanted <= set(read)
    # They are apart by more than the gap, and what is between two samples of one is no more.
    assert all(later - end > gap for (_, end), (later, _) in pairwise(spans))
    if gap == 0:
        assert set(read) == wanted
    begins, ends = set(offsets[chosen].tolist()), set(offsets[chosen + 1].tolist())
    assert all(begin in begins and end in ends for begin, end in spans)


def test_what_costs_nothing_more_is_read_at_once() -> None:
    assert Costs(dollars_per_gb=1e-310).gap == 1 << 62
    assert Costs().gap == 4_444  # 0.4 dollars a million against 0.09 a GB
    assert Costs(dollars_per_million_requests=0).gap == 0
    assert Costs(dollars_per_gb=0).whole_is_cheaper(3, 10, 1_000)
    assert not Costs().whole_is_cheaper(3, 10_000, 1_000_000)
    assert Costs().whole_is_cheaper(300, 10_000, 100_000)


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ({"dollars_per_gb": -1}, "dollars_per_gb=-1"),
        ({"dollars_per_tb": 1}, "no 'dollars_per_tb'.*dollars_per_gb"),
        ({"bandwidth": 0}, "bandwidth=0"),
        ({"concurrency": 1.5}, "concurrency=1.5"),
        ({"latency": float("nan")}, "latency=nan"),
        ({"latency": 10**400}, "latency=1000.*at most"),
    ],
)
def test_costs_that_make_no_sense(shards: str, costs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attach(make_dataset(shards), fetch="samples", costs=costs)


def test_arguments_that_do_not_fit(shards: str) -> None:
    with pytest.raises(ValueError, match=r"fetch='ranges'.*'shards', 'samples'"):
        attach(make_dataset(shards), fetch="ranges")
    with pytest.raises(ValueError, match="memory_map=True cannot be combined with fetch"):
        attach(make_dataset(shards), fetch="samples", memory_map=True)
    with pytest.raises(TypeError, match="costs=5"):
        attach(make_dataset(shards), fetch="samples", costs=5)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- what is fetched


@WORKERS
def test_only_what_is_selected_is_fetched(large: str, tmp_path: Path, workers: int) -> None:
    attachment, loader = make_large(large, tmp_path, workers)
    seen: set[int] = set()
    for epoch in range(3):
        ids = draw(100, epoch, 200)
        before = attachment.egress()
        attachment.serve(ids)
        assert_exactly_once([served_large(loader)], ids)
        fetched = attachment.egress() - before
        new = set(ids.tolist()) - seen
        headers = 0 if seen else size_of(large, range(200)) - sum_of_samples(large, range(200))
        assert fetched.bytes == sum_of_samples(large, new) + headers
        assert 0 < fetched.requests <= len(new) + 20
        seen |= new
    assert attachment.dataset.cache_usage - index_size(tmp_path) == on_disk(tmp_path)
    assert on_disk(tmp_path) < sum_of_samples(large, seen) + 8_192 * len(seen)


def sum_of_samples(folder: str, ids: Any) -> int:
    return sum(len(content(int(i))) + 4 + 8 for i in ids)


def index_size(folder: Path) -> int:
    return (folder / "index.json").stat().st_size


@WORKERS
@pytest.mark.parametrize("limit", [1_300_000, 1_600_000])
def test_each_sample_is_fetched_once_though_the_cache_is_small(
    large: str, tmp_path: Path, workers: int, limit: int
) -> None:
    attachment, loader = make_large(large, tmp_path, workers, cache_limit=limit)
    ids = draw(160, 0, 200)
    assert sum_of_samples(large, ids) > limit
    attachment.serve(ids)
    assert_exactly_once([served_large(loader)], ids)
    # Headers come again with a shard that was dropped.
    assert attachment.egress().bytes < 1.05 * size_of(large, ids)
    assert attachment.dataset.cache_usage <= limit
    assert on_disk(tmp_path) <= attachment.dataset.cache_usage


@WORKERS
def test_the_next_epoch_is_fetched_before_it_begins(
    large: str, tmp_path: Path, workers: int
) -> None:
    attachment, loader = make_large(large, tmp_path, workers, predownload=8)
    total = Egress()
    for epoch in range(2):
        attachment.serve(draw(100, epoch, 200))
        attachment.fetch_ahead()
        wait_for_ahead(attachment.dataset)
        ahead = attachment.egress() - total
        assert_exactly_once([served_large(loader)], draw(100, epoch, 200))
        new, total = attachment.egress() - total, attachment.egress()
        assert 0 < ahead.bytes <= new.bytes
    both = {*draw(100, 0, 200).tolist(), *draw(100, 1, 200).tolist()}
    assert total.bytes == size_of(large, both)


def test_an_epoch_that_begins_does_not_wait_for_what_is_fetched_ahead(
    large: str, tmp_path: Path
) -> None:
    attachment, loader = make_large(large, tmp_path, 2, predownload=64)
    for epoch in range(8):
        ids = draw(100, epoch, 200)
        attachment.serve(ids[:50])
        attachment.fetch_ahead()
        attachment.serve(ids)  # in place of it
        attachment.fetch_ahead()
        assert_exactly_once([served_large(loader)], ids)
    wait_for_ahead(attachment.dataset)
    assert attachment.egress().bytes <= size_of(large, range(200)) + 182  # two whole ones


def test_what_is_fetched_ahead_puts_out_only_what_is_not_needed(large: str, tmp_path: Path) -> None:
    attachment, loader = make_large(large, tmp_path, 2, cache_limit=1_300_000, predownload=100)
    for epoch in range(3):
        ids = draw(150, epoch, 200)
        attachment.serve(ids)
        attachment.fetch_ahead()
        wait_for_ahead(attachment.dataset)
        assert attachment.dataset.cache_usage <= 1_300_000
        assert_exactly_once([served_large(loader)], ids)


@WORKERS
def test_samples_that_are_not_selected_can_be_read(
    large: str, tmp_path: Path, workers: int
) -> None:
    attachment, loader = make_large(large, tmp_path, workers)
    for sample_id in (60, 199, 3):
        assert attachment.raw_sample(sample_id)["x"] == content(sample_id)
        assert attachment.dataset[sample_id]["x"] == content(sample_id)
    sizes = size_of(large, [60, 199, 3])
    assert attachment.egress().bytes == sizes
    for ids, batch in attachment.read(np.arange(90, 120, 2), loader, 7):
        assert [sample["id"] for sample in batch] == ids.tolist()
        assert all(sample["x"] == content(sample["id"]) for sample in batch)
    attachment.serve(range(0, 50, 2))
    assert_exactly_once([served_large(loader)], range(0, 50, 2))
    assert attachment.raw_sample(70)["x"] == content(70)
    everything = {*range(0, 50, 2), 60, 199, 3, *range(90, 120, 2), 70}
    assert attachment.egress().bytes == size_of(large, everything)


class Paired(StreamingDataset):
    """Each sample comes with the one at the other end of the data."""

    def get_item(self, sample_id: int, retry: int = 7) -> Any:
        other = super().get_item(199 - sample_id, retry)
        return {**super().get_item(sample_id, retry), "other": other}


@WORKERS
def test_samples_that_read_others_themselves(large: str, tmp_path: Path, workers: int) -> None:
    attachment, loader = make_large(large, tmp_path, workers, kind=Paired)
    ids = draw(40, 3, 200)
    attachment.serve(ids)
    seen = []
    for sample in chain.from_iterable(loader):
        seen.append(sample["id"])
        assert sample["x"] == content(sample["id"])
        assert sample["other"] == {"id": 199 - sample["id"], "x": content(199 - sample["id"])}
    assert_exactly_once([seen], ids)
    both = {*ids.tolist(), *(199 - ids).tolist()}
    assert attachment.egress().bytes == size_of(large, both)


def test_a_shard_that_comes_whole_beside_its_part_is_read(large: str, tmp_path: Path) -> None:
    attachment, loader = make_large(large, tmp_path)
    attachment.serve(range(0, 200, 4))
    served_large(loader)
    for path in Path(large).glob("*.mds"):
        shutil.copy(path, tmp_path)  # as another run without ranges leaves it there
    attachment.serve(range(0, 200, 2))
    before = attachment.egress()
    assert_exactly_once([served_large(loader)], range(0, 200, 2))
    assert attachment.egress() == before


def test_shards_that_cost_no_more_whole_are_fetched_whole(shards: str, tmp_path: Path) -> None:
    attachment, loader = make_attached(
        None,
        dataset={"remote": shards, "local": str(tmp_path)},
        attach_with={"fetch": "samples", "costs": {"dollars_per_gb": 0}},
    )
    ids = draw(60, 0)
    attachment.serve(ids)
    assert_exactly_once(served(loader), ids, padding=1)
    assert sorted(p.name for p in tmp_path.glob("*.mds")) == sorted(
        p.name for p in Path(shards).glob("*.mds")
    )
    assert not list(tmp_path.glob(".*"))


KINDS = {
    "zipped": ({"compression": "zstd"}, {}, "compressed"),
    "hashed": ({"hashes": ["sha1"]}, {"validate_hash": "sha1"}, "checked by validate_hash"),
}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # stock code, checking hashes
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_shards_that_have_no_ranges_are_fetched_whole(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    writer, dataset, reason = KINDS[kind]
    remote = write_shards(tmp_path / "remote", **writer)
    attachment, loader = make_attached(
        None,
        dataset={"remote": remote, "local": str(tmp_path / "local"), **dataset},
        attach_with=RANGED,
    )
    assert f"6 of 6 shards are fetched whole, since they are {reason}" in caplog.text
    ids = draw(60, 0)
    attachment.serve(ids)
    assert_exactly_once(served(loader), ids, padding=1)


class OwnStream(Stream):
    def _download_file(self, from_basename: str, to_basename: str | None = None) -> str:
        return super()._download_file(from_basename, to_basename)


def test_streams_that_cannot_be_read_by_ranges(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = write_shards(tmp_path / "a", SHARDS[:2])
    second = write_shards(tmp_path / "b", SHARDS[2:4], sum(SHARDS[:2]))
    third = write_shards(tmp_path / "c", SHARDS[4:], sum(SHARDS[:4]))
    streams = [
        Stream(remote=first, local=str(tmp_path / "la")),
        OwnStream(remote=second, local=str(tmp_path / "lb")),
        Stream(local=third),
    ]
    made = StreamingDataset(streams=streams, batch_size=8, shuffle=True)
    loader = make_loader(made, StreamingDataLoader)
    attachment = attach(made, loader, **RANGED)
    assert (
        "are fetched whole, since they are of OwnStream, which overrides Stream._d" in caplog.text
    )
    assert "2 of 6 shards are fetched whole, since they are local already" in caplog.text
    for epoch in range(2):
        ids = draw(60, epoch)
        attachment.serve(ids)
        assert_exactly_once(served(loader), ids, padding=1)
    assert list((tmp_path / "la").glob(".composer_dataagent*/*.mds"))
    assert list((tmp_path / "lb").glob("*.mds"))


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_served_is_what_is_selected_whatever_is_held(
    tmp_path_factory: pytest.TempPathFactory, shards: str, data: st.DataObject
) -> None:
    attachment, loader = make_attached(
        None,
        dataset={"remote": shards, "local": str(tmp_path_factory.mktemp("local"))},
        attach_with=RANGED,
    )
    some = st.sets(st.integers(0, NUM_SAMPLES - 1), min_size=2)
    for _ in range(3):
        ids = data.draw(some)
        attachment.serve(sorted(ids))
        assert_exactly_once(served(loader), ids, padding=1)


def test_a_plain_selection_by_ranges(large: str, tmp_path: Path) -> None:
    made = StreamingDataset(remote=large, local=str(tmp_path), batch_size=4)
    attachment = select(made, range(0, 200, 3), fetch="samples", costs=FREE_REQUESTS)
    assert sorted(sample["id"] for sample in made) == list(range(0, 200, 3))
    assert attachment.egress().bytes == size_of(large, range(0, 200, 3))


# ---------------------------------------------------------------------- the cache, later


def test_stock_streaming_never_reads_a_hole(large: str, tmp_path: Path) -> None:
    attachment, loader = make_large(large, tmp_path)
    attachment.serve(range(0, 200, 2))
    served_large(loader)
    assert list(tmp_path.rglob(".composer_dataagent*/*.mds"))
    stock = StreamingDataset(remote=large, local=str(tmp_path), batch_size=4)
    assert [sample["x"] == content(i) for i, sample in enumerate(stock)] == [True] * 200


def test_a_part_in_the_place_of_a_whole_shard_is_no_such(large: str, tmp_path: Path) -> None:
    attachment, loader = make_large(large, tmp_path)
    attachment.serve(range(0, 200, 2))
    served_large(loader)
    for part in tmp_path.rglob(".composer_dataagent*/*.mds"):
        part.rename(tmp_path / part.name)
    made = StreamingDataset(remote=large, local=str(tmp_path), batch_size=4)
    select(made, range(200))
    assert [sample["x"] == content(i) for i, sample in enumerate(made)] == [True] * 200


@WORKERS
def test_what_a_run_leaves_the_next_one_uses(large: str, tmp_path: Path, workers: int) -> None:
    ids = draw(100, 0, 200)
    for run in range(2):
        attachment, loader = make_large(large, tmp_path, workers, cache_limit=10_000_000)
        attachment.serve(ids)
        assert_exactly_once([served_large(loader)], ids)
        assert attachment.egress().bytes == (size_of(large, ids) if run == 0 else 0)
        assert attachment.dataset.cache_usage - index_size(tmp_path) == on_disk(tmp_path)


def test_runs_with_and_without_ranges_take_turns(large: str, tmp_path: Path) -> None:
    for run in range(4):
        if run % 2 == 0:
            attachment, loader = make_large(large, tmp_path)
            ids = draw(100, run, 200)
            attachment.serve(ids)
            assert_exactly_once([served_large(loader)], ids)
            assert attachment.dataset.cache_usage - index_size(tmp_path) == on_disk_counted(
                tmp_path
            )
        else:
            made = StreamingDataset(remote=large, local=str(tmp_path), batch_size=4)
            select(made, range(100 * (run // 2), 100 * (run // 2) + 100))
            assert len([made[i] for i in range(100)]) == 100


def test_a_cache_by_a_relative_path(
    large: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for run in range(2):
        attachment, loader = make_large(large, "./cache//a")  # type: ignore[arg-type]
        attachment.serve(range(0, 200, 2))
        served_large(loader)
        assert (attachment.egress().bytes == 0) == (run > 0)


@pytest.mark.parametrize("fetch", [None, "shards", "samples"])
def test_parts_of_another_boot_are_not_believed(
    large: str, tmp_path: Path, fetch: str | None
) -> None:
    attachment, loader = make_large(large, tmp_path)
    ids = range(0, 100, 2)
    attachment.serve(ids)
    served_large(loader)
    (folder,) = tmp_path.glob(".composer_dataagent*")
    old = folder.rename(folder.with_name(folder.name[:-12] + "0" * 12))
    os.utime(old, (0, 0))
    of_another_machine = folder.with_name(folder.name[:-12] + "1" * 12)
    of_another_machine.mkdir()
    attachment, loader = make_large(large, tmp_path, fetch=fetch)
    assert not old.exists() and of_another_machine.exists()
    attachment.serve(ids)
    served_large(loader)
    whole = sum(path.stat().st_size for path in tmp_path.glob("*.mds"))
    assert attachment.egress().bytes == (size_of(large, ids) if fetch == "samples" else whole) > 0


def test_what_a_killed_process_was_writing_is_removed(large: str, tmp_path: Path) -> None:
    attachment, loader = make_large(large, tmp_path)
    attachment.serve(range(0, 200, 2))
    served_large(loader)
    (part, *_) = tmp_path.rglob(".composer_dataagent*/*.mds")
    left = part.with_name(part.name + ".12345")
    left.write_bytes(b"half of it")
    os.utime(left, (0, 0))
    at_it = part.with_name(part.name + ".54321")  # another container's, perhaps
    at_it.write_bytes(b"half of it")
    attachment, loader = make_large(large, tmp_path)
    assert part.exists() and at_it.exists() and not left.exists()
    attachment.serve(range(0, 200, 2))
    served_large(loader)
    assert attachment.egress().bytes == 0


@WORKERS
def test_whole_shards_of_the_cache_are_used(large: str, tmp_path: Path, workers: int) -> None:
    stock = StreamingDataset(remote=large, local=str(tmp_path), batch_size=4)
    for i in range(200):
        assert stock[i]["id"] == i
    attachment, loader = make_large(large, tmp_path, workers)
    attachment.serve(draw(100, 0, 200))
    assert_exactly_once([served_large(loader)], draw(100, 0, 200))
    assert attachment.egress().bytes == 0


@WORKERS
@pytest.mark.parametrize("fetch", [None, "shards"])
def test_what_came_by_ranges_is_used_by_a_run_that_fetches_whole_shards(
    large: str, tmp_path: Path, workers: int, fetch: str | None
) -> None:
    attachment, loader = make_large(large, tmp_path)
    attachment.serve(range(0, 200, 2))
    served_large(loader)
    attachment, loader = make_large(large, tmp_path, workers, fetch)
    assert attachment.dataset.cache_usage - index_size(tmp_path) == on_disk_counted(tmp_path)
    attachment.serve(range(0, 200, 4))
    assert_exactly_once([served_large(loader)], range(0, 200, 4))
    assert attachment.egress().bytes == 0
    attachment.serve(range(200))
    assert_exactly_once([served_large(loader)], range(200))
    shards = sorted(Path(large).glob("*.mds"))
    assert attachment.egress().bytes == sum(path.stat().st_size for path in shards)
    assert not list(tmp_path.rglob(".composer*/*.mds"))
    assert attachment.dataset.cache_usage - index_size(tmp_path) == on_disk_counted(tmp_path)


def test_what_is_fetched_can_be_changed_between_epochs(large: str, tmp_path: Path) -> None:
    attachment, loader = make_large(large, tmp_path, fetch=None)
    dataset = attachment.dataset
    (first,) = (path for path in Path(large).glob("*.mds") if "00000" in path.name)

    def serve(ids: list[int], **fetch: Any) -> int:
        before = attachment.egress().bytes
        select(dataset, ids, **fetch)
        assert_exactly_once([served_large(loader)], ids)
        return attachment.egress().bytes - before

    by_ranges = {"fetch": "samples", "costs": FREE_REQUESTS}
    assert serve([2, 4], **by_ranges) == size_of(large, [2, 4])
    assert serve([2, 6], costs=FREE_REQUESTS) == size_of(large, [6]) - header_of(large, 0)
    assert serve([2, 4, 6], fetch="shards") == 0
    assert serve([2, 8], fetch="shards") == first.stat().st_size
    assert serve([100, 101], **by_ranges) == size_of(large, [100, 101])


def test_workers_that_run_are_not_left_with_another_fetch(large: str, tmp_path: Path) -> None:
    made = StreamingDataset(remote=large, local=str(tmp_path), batch_size=4)
    loader = StreamingDataLoader(
        made,
        batch_size=4,
        num_workers=1,
        collate_fn=list,
        multiprocessing_context="fork",
        persistent_workers=True,
    )
    select(made, [2, 4], fetch="shards")
    assert_exactly_once([served_large(loader)], [2, 4])
    for unchanged in (None, "shards"):
        select(made, [2, 6], fetch=unchanged)
    with pytest.raises(RuntimeError, match="persistent workers are already running"):
        select(made, [2, 8], fetch="samples", costs=FREE_REQUESTS)
    assert_exactly_once([served_large(loader)], [2, 6])


def header_of(folder: str, shard: int) -> int:
    shards = json.loads(Path(folder, "index.json").read_text())["shards"]
    return header_size(shards[shard]["samples"])


def overwrite(path: Path, data: bytes, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at, os.SEEK_SET if at >= 0 else os.SEEK_END)
        file.write(data)


def say_that_all_is_held(path: Path) -> None:
    overwrite(path, b"\xff\xff", -2)  # of some 20 samples the last ones


def put_a_copy_in_place(path: Path) -> None:
    """With holes that it believes to be samples, as if samples came while it was made."""
    copy = shutil.copy(path, path.with_name("copy"))
    say_that_all_is_held(Path(copy))
    os.replace(copy, path)


DAMAGES = {
    "deleted": os.remove,
    "emptied": lambda path: os.truncate(path, 0),
    "cut": lambda path: os.truncate(path, 5_000),
    "overwritten": partial(overwrite, data=b"\xff" * 60, at=0),
    "zeroed": partial(overwrite, data=bytes(60), at=0),
    "believed": say_that_all_is_held,
    "copied": put_a_copy_in_place,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"more"),
}


@WORKERS
@pytest.mark.parametrize("limit", [None, 1_300_000])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_parts_are_fetched_again(
    large: str, tmp_path: Path, damage: str, workers: int, limit: int | None
) -> None:
    attachment, loader = make_large(large, tmp_path, workers, cache_limit=limit)
    for epoch in range(3):
        ids = draw(100, epoch, 200)
        attachment.serve(ids)
        assert_exactly_once([served_large(loader)], ids)
        for part in sorted(tmp_path.rglob("*.mds"))[epoch::3]:
            DAMAGES[damage](part)


@given(seed=st.integers(0, 20))
@settings(max_examples=5, deadline=None)
def test_a_copy_of_parts_with_samples_of_fixed_size_is_not_believed(
    tmp_path_factory: pytest.TempPathFactory, shards: str, seed: int
) -> None:
    """Nothing in such a sample tells it from a hole."""
    folder = tmp_path_factory.mktemp("local")
    dataset = {"remote": shards, "local": str(folder)}
    attachment, loader = make_attached(None, dataset=dataset, attach_with=RANGED)
    attachment.serve(draw(30, seed))
    served(loader)
    for path in folder.rglob(".composer*/*.mds"):
        put_a_copy_in_place(path)
    attachment, loader = make_attached(None, dataset=dataset, attach_with=RANGED)
    ids = draw(60, seed + 1)
    attachment.serve(ids)
    assert_exactly_once(served(loader), ids, padding=1)


_ON_A_SMALL_DISK = """
import sys
from composer_dataagent.streaming import select
from streaming import StreamingDataset
dataset = StreamingDataset(remote=sys.argv[1], local=sys.argv[2], batch_size=4)
select(dataset, range(0, 200, 2), fetch="samples")
list(dataset)
"""


def test_a_full_disk_is_told_and_not_filled_with_whole_shards(large: str, tmp_path: Path) -> None:
    local = tmp_path / "small"
    local.mkdir()
    script = (
        'mount -t tmpfs -o size=400k tmpfs "$1" || exit 77; "$2" -c "$3" "$4" "$1"; code=$?; '
        'find "$1" -type f; exit $code'
    )
    run = subprocess.run(
        [*apart(script), str(local), sys.executable, _ON_A_SMALL_DISK, large],
        capture_output=True,
        text=True,
    )
    if run.returncode == 77:
        pytest.skip(f"no file system can be mounted here: {run.stderr}")
    assert run.returncode == 1 and "No space left on device" in run.stderr
    # Neither whole shards, nor what nobody will read.
    found = [Path(name) for name in run.stdout.split() if not name.endswith("index.json")]
    assert found and all(re.fullmatch(r"shard\.\d+\.mds", path.name) for path in found)
    assert all(path.parent != local for path in found)


def test_a_shard_of_which_all_is_needed_comes_whole(large: str, tmp_path: Path) -> None:
    made = StreamingDataset(remote=large, local=str(tmp_path), batch_size=4)
    loader = StreamingDataLoader(made, batch_size=4, collate_fn=list)
    attachment = attach(made, loader, fetch="samples")  # at usual prices
    attachment.serve(range(0, 200, 2))
    served_large(loader)
    parts = {p.name for p in tmp_path.rglob(".composer*/*.mds")}
    assert parts
    attachment.serve(range(200))
    assert_exactly_once([served_large(loader)], range(200))
    # What came whole is in streaming's own place, and nothing is there twice.
    whole = {p.name for p in tmp_path.glob("*.mds")}
    assert not whole & {p.name for p in tmp_path.rglob(".composer*/*.mds")}
    assert made.cache_usage - index_size(tmp_path) == on_disk_counted(tmp_path)


def on_disk_counted(folder: Path) -> int:
    whole = sum(p.stat().st_size for p in folder.glob("*.mds"))
    return whole + sum(512 * p.stat().st_blocks for p in folder.rglob(".composer*/*.mds"))


# ---------------------------------------------------------------------- many processes


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("limited", [False, True])
def test_two_ranks(
    store: ObjectStore, remotes: dict[str, str], tmp_path: Path, workers: int, limited: bool
) -> None:
    epochs = [draw(60, epoch).tolist() for epoch in range(3)]
    limit = {"cache_limit": 90_000} if limited else {}
    outcomes = run_epochs(
        *map(Epoch, epochs),
        dataset={"remote": remotes["plain"], "local": str(tmp_path / "local"), **limit},
        attach=RANGED,
        ranks=2,
        num_workers=workers,
        environment=store.environment,
    )
    for epoch, ids in enumerate(epochs):
        of_epoch = [of_rank[epoch] for of_rank in outcomes]
        assert [outcome.error for outcome in of_epoch] == ["", ""]
        batches = chain.from_iterable(outcome.batches for outcome in of_epoch)
        assert_exactly_once(batches, ids, padding=1)


def test_spawned_workers(large: str, tmp_path: Path) -> None:
    made = StreamingDataset(remote=large, local=str(tmp_path), batch_size=4, shuffle=True)
    loader = StreamingDataLoader(
        made,
        batch_size=4,
        num_workers=2,
        collate_fn=list,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )
    attachment = attach(made, loader, **RANGED)
    for epoch in range(2):
        ids = draw(100, epoch, 200)
        attachment.serve(ids)
        assert_exactly_once([served_large(loader)], ids)
    assert attachment.egress().bytes == size_of(large, {*draw(100, 0, 200), *draw(100, 1, 200)})


def test_the_process_that_fetches_for_this_one_may_be_killed(large: str, tmp_path: Path) -> None:
    attachment, _ = make_large(large, tmp_path)
    others = multiprocessing.active_children()
    assert attachment.raw_sample(0)["x"] == content(0)
    for sample_id in (100, 199):
        for child in set(multiprocessing.active_children()) - set(others):
            child.kill()
            child.join()
        assert attachment.raw_sample(sample_id)["x"] == content(sample_id)


@pytest.mark.parametrize("kill", [kill_a_worker, kill_this_run])
def test_killed_and_run_again(
    store: ObjectStore, remotes: dict[str, str], tmp_path: Path, kill: Any
) -> None:
    arguments: dict[str, Any] = {
        "dataset": {"remote": remotes["plain"], "local": str(tmp_path / "local")},
        "attach": RANGED,
        "num_workers": 2,
        "environment": store.environment,
    }
    store.break_down(Fault("shard", "delay", 0.05))
    ids = draw(90, 0).tolist()
    ((first, *_),) = run_epochs(Epoch(ids, during=kill), **arguments) or [[Outcome([])]]
    del first
    store.mend()
    ((again,),) = run_epochs(Epoch(ids), **arguments)
    assert again.error == ""
    assert_exactly_once(again.batches, ids, padding=0)


# ---------------------------------------------------------------------- faults of the store


def arguments_of(remotes: dict[str, str], folder: Path, **more: Any) -> dict[str, Any]:
    return {"remote": remotes["plain"], "local": str(folder / "local"), **more}


def assert_complete(outcome: Outcome, ids: Any = range(NUM_SAMPLES)) -> None:
    assert outcome.error == ""
    assert_exactly_once(outcome.batches, ids, padding=1)


TRANSIENT = {
    "two 500": (Fault(SHARD, "status", 500, 2), {}),
    "two 503": (Fault(SHARD, "status", 503, 2), {}),
    # More than the client itself tries.
    "nine 500": (Fault(SHARD, "status", 500, 9), {}),
    "404 once": (Fault(SHARD, "status", 404, 1), {}),
    "cut once": (Fault(SHARD, "cut", 3, 1), {}),
    "cut six times": (Fault(SHARD, "cut", 3, 6), {}),
    "truncated": (Fault(SHARD, "truncate", 100, 1), {}),
    "empty": (Fault(SHARD, "truncate", 0, 1), {}),
    "header flipped": (Fault(SHARD, "flip", 1, 1), {}),
    "place of a sample flipped": (Fault(SHARD, "flip", 4 + 4 * 9, 1), {}),
    "slow": (Fault(SHARD, "delay", 0.5, 2), {}),
    "too slow": (Fault(SHARD, "delay", 2, 2), {"download_timeout": 0.5}),
}


@pytest.mark.parametrize(
    ("name", "workers"), [(name, 2) for name in TRANSIENT] + [("nine 500", 0), ("cut once", 0)]
)
def test_transient(
    store: ObjectStore, remotes: dict[str, str], tmp_path: Path, name: str, workers: int
) -> None:
    fault, more = TRANSIENT[name]
    store.break_down(fault)
    ids = draw(90, 0).tolist()
    ((outcome,),) = run_epochs(
        Epoch(ids),
        dataset=arguments_of(remotes, tmp_path, download_retry=3, **more),
        attach=RANGED,
        num_workers=workers,
        environment=store.environment,
    )
    assert_complete(outcome, ids)
    assert store.faults_left() == []  # it did happen


PERMANENT = {
    "404": (Fault(SHARD, "status", 404), {}, "not found"),
    "403": (Fault(SHARD, "status", 403), {}, "permission"),
    "500": (Fault(SHARD, "status", 500), {}, r"\(500\)"),
    "cut": (Fault(SHARD, "cut", 3), {}, r"IncompleteRead|connection"),
    "truncated": (Fault(SHARD, "truncate", 100), {}, r"has 100 bytes"),
    "empty": (Fault(SHARD, "truncate", 0), {}, r"has 0 bytes"),
    "too slow": (Fault(SHARD, "delay", 2), {"download_timeout": 0.5}, "timeout"),
}


@pytest.mark.parametrize(
    ("name", "ranks", "workers"),
    [(name, 1, 2) for name in PERMANENT] + [("404", 1, 0), ("500", 2, 0), ("truncated", 2, 0)],
)
def test_permanent_and_the_way_back(
    store: ObjectStore,
    remotes: dict[str, str],
    tmp_path: Path,
    name: str,
    ranks: int,
    workers: int,
) -> None:
    fault, more, cause = PERMANENT[name]
    store.break_down(fault)
    outcomes = run_epochs(
        Epoch(),
        Epoch(before=store.mend),
        dataset=arguments_of(remotes, tmp_path, download_retry=1, **more),
        attach=RANGED,
        ranks=ranks,
        num_workers=workers,
        environment=store.environment,
    )
    for failed, _ in outcomes:
        assert re.search(cause, failed.error)
        assert SHARD in failed.error and remotes["plain"] in failed.error
        assert not set(chain.from_iterable(failed.batches)) & set(OF_SHARD)
    after = [after for _, after in outcomes]
    assert [outcome.error for outcome in after] == [""] * ranks
    assert_exactly_once(
        chain.from_iterable(outcome.batches for outcome in after), range(NUM_SAMPLES), padding=1
    )


def test_a_remote_whose_ranges_fail_is_not_asked_for_each_shard(
    store: ObjectStore, remotes: dict[str, str], tmp_path: Path
) -> None:
    store.break_down(Fault("shard", "all of it"))
    ids = draw(60, 0).tolist()
    ((outcome,),) = run_epochs(
        Epoch(ids),
        dataset=arguments_of(remotes, tmp_path),
        attach=RANGED,
        environment=store.environment,
    )
    assert_complete(outcome, ids)
    gets = Counter(request for request in store.requests("shard") if request.startswith("GET"))
    assert sorted(count == 1 for count in gets.values()) == [False, False, False, True, True, True]


def test_a_remote_that_failed_is_asked_again_in_the_next_epoch(
    store: ObjectStore, remotes: dict[str, str], tmp_path: Path
) -> None:
    first, second = list(range(OF_SHARD.stop)), list(range(OF_SHARD.stop, NUM_SAMPLES, 2))
    store.break_down(Fault("shard", "all of it"))
    ((broken, mended),) = run_epochs(
        Epoch(first),
        Epoch(second, before=store.mend),
        dataset=arguments_of(remotes, tmp_path),
        attach=RANGED,
        environment=store.environment,
    )
    assert_complete(broken, first)
    assert_complete(mended, second)
    whole = {path.name for path in tmp_path.rglob("*.mds") if ".composer" not in str(path)}
    assert whole == {f"shard.0000{shard}.mds" for shard in range(5)}


@WORKERS
def test_a_missing_shard_without_selected_samples_is_never_asked_for(
    store: ObjectStore, remotes: dict[str, str], tmp_path: Path, workers: int
) -> None:
    store.break_down(Fault(SHARD, "status", 404))
    selected = [*range(OF_SHARD.start), *range(OF_SHARD.stop, NUM_SAMPLES)]
    ((outcome,),) = run_epochs(
        Epoch(selected),
        dataset=arguments_of(remotes, tmp_path),
        attach=RANGED,
        num_workers=workers,
        environment=store.environment,
    )
    assert_complete(outcome, selected)
    assert store.requests(SHARD) == []


@pytest.fixture
def replaced(store: ObjectStore, shards: str) -> Iterator[str]:
    """A remote of which a test may replace objects."""
    yield store.upload(shards, "replaced")


@WORKERS
def test_an_object_that_is_replaced_is_not_mixed_with_the_old_one(
    store: ObjectStore, replaced: str, shards: str, tmp_path: Path, workers: int
) -> None:
    """The same samples; but columns in another order would fit as well, and only the tag tells."""
    # Of the same size: the text that the header ends with is read by nobody.
    other = Path(shards, SHARD).read_bytes().replace(b'"format"', b'"FORMAT"')
    ((first, second),) = run_epochs(
        Epoch(range(0, NUM_SAMPLES, 2)),
        Epoch(before=partial(store.put, f"replaced/{SHARD}", other)),
        dataset={"remote": replaced, "local": str(tmp_path / "local")},
        attach=RANGED,
        num_workers=workers,
        environment=store.environment,
    )
    assert_complete(first, range(0, NUM_SAMPLES, 2))
    assert_complete(second)
    # Header and half of it, the other half, and all of it anew.
    assert len(store.requests(SHARD)) > 2 * (1 + len(OF_SHARD) // 2)


# ---------------------------------------------------------------------- forks


def _read_and_train(large: str, folder: Path, workers: int) -> None:
    """In a process of its own, which reads from an object store itself before it has workers."""
    obstore.get(LocalStore(large), "index.json").bytes()
    attachment, loader = make_large(large, folder, workers)
    assert attachment.raw_sample(7)["x"] == content(7)
    attachment.serve(range(0, 200, 2))
    assert_exactly_once([served_large(loader)], range(0, 200, 2))


@WORKERS
def test_a_process_that_uses_such_a_client_itself(large: str, tmp_path: Path, workers: int) -> None:
    """Its forks cannot, so they fetch whole shards; what they would wait for never comes."""
    process = multiprocessing.get_context("fork").Process(
        target=_read_and_train, args=(large, tmp_path, workers)
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    assert bool(list(tmp_path.glob("*.mds"))) == (workers > 0)
