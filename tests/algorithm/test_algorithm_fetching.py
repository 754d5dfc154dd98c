# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What an epoch fetched from a remote is told as it was, over all ranks, nodes and resumptions."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import killable_run
import numpy as np
import pytest
import torch
from composer.loggers import InMemoryLogger
from digits_run import NUM_SAMPLES, Recorder, build_trainer, make_loader, make_map_loader
from fetching_ranks import train_ranks
from killable_run import saved_before

from composer_dataagent import DataAgent
from composer_dataagent.report.history import read_rows
from composer_dataagent.report.run import read_meta
from composer_dataagent.streaming import Costs
from composer_dataagent.streaming.spans import header_size

# The samples are so small that a request costs more than a shard.
SAMPLES: dict[str, Any] = {"fetch": "samples", "costs": {"dollars_per_million_requests": 0}}
MODES = pytest.mark.parametrize("mode", [{}, SAMPLES], ids=["shards", "samples"])
FETCHED = ("egress_bytes", "egress_requests", "egress_dollars")
FULL, PRUNED = 13, 7  # batches of an epoch


def total(rows: Iterable[dict[str, Any]], name: str = "egress_bytes") -> float:
    return sum(row[name] for row in rows)


def whole_shards(folder: str | Path) -> list[int]:
    """Sizes of the shards that are there whole."""
    return [path.stat().st_size for path in Path(folder).glob("*.mds")]


def shards_of(remote: str) -> list[dict[str, Any]]:
    """As the index has them."""
    return json.loads(Path(remote, "index.json").read_text())["shards"]


def bytes_of(remote: str, ids: set[int], known: set[int]) -> int:
    """Of samples that come by ranges, with the headers of shards of which none was there before."""
    size = first = 0
    for shard in shards_of(remote):
        raw = Path(remote, shard["raw_data"]["basename"]).read_bytes()
        offsets = np.frombuffer(raw, np.uint32, shard["samples"] + 1, 4).astype(np.int64)
        inside = range(first, first + shard["samples"])
        size += sum(int(np.diff(offsets)[i - first]) for i in ids & set(inside))
        if ids & set(inside) and not known & set(inside):
            size += header_size(shard["samples"])
        first += shard["samples"]
    return size


def train(
    remote: str, folder: Path, *, workers: int = 0, **arguments: Any
) -> tuple[list[dict[str, Any]], list[set[int]]]:
    """Rows, and which samples each epoch trained on."""
    recorder = Recorder()
    loader = make_loader(str(folder / "cache"), remote=remote, num_workers=workers)
    agent = DataAgent(0.5, run_dir=str(folder / "run"), **arguments)
    trainer = build_trainer(loader, agent, callbacks=[recorder])
    trainer.fit()
    trainer.close()
    return read_rows(folder / "run"), [set(ids) for ids in recorder.by_epoch()]


# ------------------------------------------------------------------ what rows say


@pytest.mark.parametrize("workers", [0, 2])
def test_whole_shards(shards: str, tmp_path: Path, workers: int) -> None:
    rows, _ = train(shards, tmp_path, workers=workers, costs={"dollars_per_gb": 2.0})
    fetched = whole_shards(tmp_path / "cache")
    assert len(fetched) == len(whole_shards(shards)) > 5
    assert [row["egress_bytes"] for row in rows] == [sum(fetched), 0, 0]
    assert [row["egress_requests"] for row in rows] == [2 * len(fetched), 0, 0]
    dollars = 2.0 * sum(fetched) / 1e9 + 0.4 * 2 * len(fetched) / 1e6
    assert [row["egress_dollars"] for row in rows] == [pytest.approx(dollars), 0, 0]
    assert read_meta(tmp_path / "run")["costs"] == {"dollars_per_gb": 2.0}
    assert "fetch" not in read_meta(tmp_path / "run")


@pytest.mark.parametrize("workers", [0, 2])
def test_samples(shards: str, tmp_path: Path, workers: int) -> None:
    rows, epochs = train(shards, tmp_path, workers=workers, warmup_epochs=0, **SAMPLES)
    assert not whole_shards(tmp_path / "cache")
    known: set[int] = set()
    for row, ids in zip(rows, epochs, strict=True):
        assert row["egress_bytes"] == bytes_of(shards, ids - known, known)
        assert bool(ids - known) <= row["egress_requests"] <= len(ids - known) + 9
        assert row["egress_dollars"] == Costs(**SAMPLES["costs"]).charged(
            row["egress_requests"], row["egress_bytes"]
        )
        known |= ids
    assert total(rows) < sum(whole_shards(shards))
    meta = read_meta(tmp_path / "run")
    assert (meta["fetch"], meta["costs"]) == ("samples", SAMPLES["costs"])


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_cache_that_keeps_a_full_first_epoch_is_told(
    shards: str, tmp_path: Path, warmup: int, caplog: pytest.LogCaptureFixture
) -> None:
    rows, _ = train(shards, tmp_path, warmup_epochs=warmup, **SAMPLES)
    told = "fetch='samples' saves nothing in this run" in caplog.text
    assert told == (total(rows[1:]) == 0) == (warmup > 0)


@MODES
def test_what_is_trained_on_does_not_depend_on_how_it_is_fetched(
    shards: str, tmp_path: Path, mode: dict[str, Any]
) -> None:
    rows, epochs = train(shards, tmp_path / "remote", **mode)
    local = Recorder()
    agent = DataAgent(0.5, run_dir=str(tmp_path / "local"))
    build_trainer(make_loader(shards), agent, callbacks=[local]).fit()
    assert epochs == [set(ids) for ids in local.by_epoch()]
    timed = ("seconds", "agent_seconds", *FETCHED)
    assert [{k: v for k, v in row.items() if k not in timed} for row in rows] == [
        {k: v for k, v in row.items() if k not in timed} for row in read_rows(tmp_path / "local")
    ]


def test_looks_are_counted(shards: str, tmp_path: Path) -> None:
    """Each in the row that was written when it was made."""
    rows, _ = train(shards, tmp_path, interval="0.25ep", look=True, **SAMPLES)
    assert len(rows) == 12 and total(rows, "looked") > 0
    # In the first epoch, everything is looked at or trained on.
    assert total(rows[:4]) == bytes_of(shards, set(range(NUM_SAMPLES)), set())
    assert rows[1]["egress_bytes"] > 0 and total(rows[4:]) == 0


def test_it_is_logged_beside_the_other_numbers_of_an_epoch(shards: str, tmp_path: Path) -> None:
    memory = InMemoryLogger()
    loader = make_loader(str(tmp_path / "cache"), remote=shards)
    build_trainer(loader, DataAgent(run_dir=str(tmp_path / "run")), loggers=memory).fit()
    for name in FETCHED:
        logged = [float(value) for _, value in memory.data[f"data_agent/{name}"]]
        assert logged == [row[name] for row in read_rows(tmp_path / "run")]
        assert logged[0] > 0


@pytest.mark.parametrize("map_style", [False, True])
def test_where_nothing_can_be_fetched_nothing_is_said(
    shards: str, tmp_path: Path, map_style: bool
) -> None:
    loader = make_map_loader() if map_style else make_loader(shards)
    agent = DataAgent(run_dir=str(tmp_path))
    trainer = build_trainer(loader, agent, max_duration="3ba")
    trainer.fit()
    assert all("egress" not in name for row in read_rows(tmp_path) for name in row)
    state = agent.state_dict()
    assert all("egress" not in name for name in state["inside_epoch"]["journal"][0])
    assert not {"fetch", "costs"} & (read_meta(tmp_path).keys() | state["settings"].keys())


def test_map_style_data_have_no_parts_to_fetch() -> None:
    trainer = build_trainer(make_map_loader(), DataAgent(fetch="samples"))
    with pytest.raises(ValueError, match=r"fetch='samples' is for MDS shards.*StoredDigits"):
        trainer.fit()


# ------------------------------------------------------------------ ranks


NODES = pytest.mark.parametrize("nodes", [1, 2])


@NODES
def test_each_node_counts_once(shards: str, tmp_path: Path, nodes: int) -> None:
    of_nodes = train_ranks(shards, tmp_path, ranks=2, nodes=nodes)
    rows = read_rows(tmp_path / "run")
    # Not all that is in the caches: the report's samples are read when all rows are written.
    ends = np.cumsum([shard["samples"] for shard in shards_of(shards)])
    needed = [
        np.unique(np.searchsorted(ends, list(set().union(*ids)), "right")) for ids in of_nodes
    ]
    sizes = [shards_of(shards)[i]["raw_data"]["bytes"] for of_node in needed for i in of_node]
    assert total(rows) == sum(sizes)
    assert total(rows, "egress_requests") == 2 * len(sizes)
    if nodes == 1:  # all was there after the first epoch
        assert total(rows[1:]) == 0


@NODES
def test_each_node_counts_the_samples_that_it_needs(
    shards: str, tmp_path: Path, nodes: int
) -> None:
    of_nodes = train_ranks(shards, tmp_path, ranks=2, nodes=nodes, warmup_epochs=0, **SAMPLES)
    known: list[set[int]] = [set() for _ in of_nodes]
    for row, epoch in zip(read_rows(tmp_path / "run"), zip(*of_nodes, strict=True), strict=True):
        of_epoch = list(zip(epoch, known, strict=True))
        assert row["egress_bytes"] == sum(bytes_of(shards, ids - old, old) for ids, old in of_epoch)
        known = [ids | old for ids, old in of_epoch]


# ------------------------------------------------------------------ stopped and gone on


def journal_of(folder: Path) -> list[dict[str, Any]]:
    """What the checkpoint of a killed run knows of the epoch that was running, by rank."""
    (path,) = folder.glob("checkpoints/ep*-rank0.pt")
    algorithms = torch.load(path, weights_only=False)["state"]["algorithms"]
    return dict(algorithms)["DataAgent"]["inside_epoch"]["journal"]


@pytest.mark.parametrize(
    ("before", "after", "ranks"),
    [({}, {}, 2), (SAMPLES, SAMPLES, 1), ({}, SAMPLES, 1), (SAMPLES, {}, 2)],
    ids=["shards", "samples", "shards, then samples", "samples, then shards"],
)
def test_a_killed_run_tells_what_its_checkpoint_knew_and_what_came_after(
    shards: str, tmp_path: Path, before: dict[str, Any], after: dict[str, Any], ranks: int
) -> None:
    cache, folder = tmp_path / "cache", tmp_path / "run"
    save_interval, kill_after = saved_before(7)
    arguments: dict[str, Any] = {
        "ranks": ranks,
        "save_interval": save_interval,
        "loader": {"remote": shards},
    }
    killed = killable_run.run(str(cache), folder, kill_after=kill_after, **arguments, **before)
    assert killed.exit_code == -signal.SIGKILL
    known = journal_of(folder)
    assert len(known) == ranks and known[0]["egress_bytes"] > 0
    assert all(of_rank["egress_bytes"] == 0 for of_rank in known[1:])
    shutil.rmtree(cache)  # of another machine, say
    resumed = killable_run.run(str(cache), folder, **arguments, **after)
    assert resumed.exit_code == 0, resumed.error
    assert [row["epoch"] for row in resumed.rows] == [0, 1, 2]
    if after:
        done: set[int] = set()
        expected = []
        for began, end in pairwise((6, FULL, FULL + PRUNED, FULL + 2 * PRUNED)):
            ids = {i for batch in range(began, end) for i in resumed.batches[batch]}
            expected.append(bytes_of(shards, ids - done, done))
            done |= ids
        assert not whole_shards(cache)
    else:
        # Half an epoch of samples from anywhere is in all shards.
        expected = [sum(whole_shards(cache)), 0, 0]
    expected[0] += known[0]["egress_bytes"]
    assert [row["egress_bytes"] for row in resumed.rows] == expected


def test_a_checkpoint_of_before_it_was_counted(shards: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"

    def run(number: int, **arguments: Any) -> list[dict[str, Any]]:
        loader = make_loader(str(tmp_path / f"cache-{number}"), remote=shards)
        agent = DataAgent(run_dir=str(tmp_path / "run"), overwrite=True)
        trainer = build_trainer(loader, agent, **arguments)
        trainer.fit()
        trainer.close()
        return read_rows(tmp_path / "run")

    run(0, max_duration="5ba", save_folder=str(folder), save_interval="5ba")
    (path,) = folder.glob("ep*-rank0.pt")
    checkpoint = torch.load(path, weights_only=False)
    for of_rank in dict(checkpoint["state"]["algorithms"])["DataAgent"]["inside_epoch"]["journal"]:
        assert of_rank.pop("egress_bytes") > 0 and of_rank.pop("egress_requests") > 0
    torch.save(checkpoint, path)
    rows = run(1, load_path=str(path))
    assert total(rows) == sum(whole_shards(tmp_path / "cache-1")) > 0


@pytest.mark.parametrize("reset_time", [False, True])
def test_another_fit(shards: str, tmp_path: Path, reset_time: bool) -> None:
    cache = tmp_path / "cache"
    agent = DataAgent(run_dir=str(tmp_path / "run"), **SAMPLES)
    recorder = Recorder()
    trainer = build_trainer(
        make_loader(str(cache), remote=shards), agent, max_duration="5ba", callbacks=[recorder]
    )
    trainer.fit()
    first = read_rows(tmp_path / "run")
    assert len(first) == 1 and first[0]["egress_bytes"] > 0
    trainer.fit(duration="2ep", reset_time=reset_time)
    rows = read_rows(tmp_path / "run")
    everything = bytes_of(shards, {i for _, ids in recorder.ids for i in ids}, set())
    assert total(rows) >= everything  # the row of the epoch that was gone on with has all of it
    assert (rows[:1] == first) == reset_time
    assert agent._attachment is not None
    shown = agent._attachment.egress().bytes - total(rows)
    assert 0 <= shown < 0.1 * total(rows)  # the report's samples were read again, or are the same
