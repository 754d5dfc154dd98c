# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Selections that touch fewer shards, through Composer's Trainer and shards on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digits_run import (
    NUM_SAMPLES,
    Recorder,
    build_trainer,
    make_loader,
    make_map_loader,
    write_shards,
)
from sound_runs import assert_sound
from streaming import StreamingDataset

from composer_dataagent import DataAgent
from composer_dataagent.report.history import read_rows
from composer_dataagent.selection import selector_names
from composer_dataagent.streaming import attach

HALF = 102


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of five samples or so."""
    return write_shards(str(tmp_path_factory.mktemp("many")), size_limit=1_500)


def _bounds(shards: str) -> np.ndarray:
    return np.cumsum(StreamingDataset(local=shards, batch_size=1).samples_per_shard)


def _run(shards: str, run_dir: Path, **arguments: Any) -> tuple[list[dict], list[list[int]]]:
    recorder = Recorder()
    agent = DataAgent(0.5, run_dir=str(run_dir), **arguments)
    trainer = build_trainer(make_loader(shards), agent, callbacks=[recorder])
    trainer.fit()
    unseen = NUM_SAMPLES - len({i for ids in recorder.by_epoch() for i in ids})
    assert_sound(trainer, agent, unseen)
    trainer.close()
    return read_rows(run_dir), recorder.by_epoch()


@pytest.mark.parametrize("name", selector_names())
def test_every_selector_touches_the_shards_that_its_history_says(
    many_shards: str, tmp_path: Path, name: str
) -> None:
    selector = {"name": name, "egress_weight": 0.3}
    rows, epochs = _run(many_shards, tmp_path, selector=selector)
    bounds = _bounds(many_shards)
    for row, ids in zip(rows, epochs, strict=True):
        shards = np.unique(np.searchsorted(bounds, ids, side="right"))
        assert row["shards_touched"] == pytest.approx(len(shards) / len(bounds))
        assert row["selected"] == len(set(ids)) == len(ids)
        # More shards than a row has numbers: neighbours together.
        assert len(row["shard_selected"]) <= 40 < len(bounds)
        for group, selected in row["shard_selected"].items():
            first, _, last = group.partition("-")
            begin = bounds[int(first) - 1] if int(first) else 0
            end = bounds[int(last or first)]
            assert selected == sum(begin <= i < end for i in ids)
            assert row["shard_total"][group] == end - begin
        assert sum(row["shard_total"].values()) == NUM_SAMPLES
    assert [len(ids) for ids in epochs] == [NUM_SAMPLES] + [
        NUM_SAMPLES if name == "full" else HALF
    ] * 2
    assert rows[0]["shards_touched"] == 1
    if name not in ("full", "infobatch"):
        assert all(row["shards_touched"] < 0.8 for row in rows[1:])


def test_without_a_weight_nearly_all_shards_are_touched(many_shards: str, tmp_path: Path) -> None:
    rows, _ = _run(many_shards, tmp_path)
    assert all(row["shards_touched"] > 0.85 for row in rows)


@pytest.mark.parametrize("name", ["random", "data_agent"])
def test_a_round_chooses_between_the_shards_of_its_own_part(
    many_shards: str, tmp_path: Path, name: str
) -> None:
    touched = []
    for weight in (0.0, 1.0):
        rows, epochs = _run(
            many_shards,
            tmp_path / str(weight),
            selector={"name": name, "egress_weight": weight},
            interval="0.5ep",
        )
        assert all(len(set(ids)) == len(ids) for ids in epochs)
        assert len(rows) == 6 and rows[0]["shards_touched"] == 1
        for row in rows:
            assert sum(row["shard_selected"].values()) == row["selected"]
            of = sum(row["shard_total"].values())
            assert of == pytest.approx(NUM_SAMPLES / 2, abs=1)
            assert row["ratio"] == pytest.approx(row["selected"] / of)
        touched.append(np.mean([row["shards_touched"] for row in rows[1:]]))
    assert touched[1] < touched[0] - 0.2


def test_map_style_data_have_no_shards(tmp_path: Path) -> None:
    agent = DataAgent(0.5, selector={"name": "entropy", "egress_weight": 0.2})
    with pytest.raises(ValueError, match=r"egress_weight=0\.2.*map-style.*remove egress_weight"):
        build_trainer(make_map_loader(), agent).fit()
    plain = DataAgent(0.5, selector="entropy", run_dir=str(tmp_path))
    build_trainer(make_map_loader(), plain).fit()
    assert all(row["shards_touched"] is None for row in read_rows(tmp_path))
    assert not any("shard_total" in row for row in read_rows(tmp_path))


def test_one_shard_leaves_nothing_to_choose(tmp_path: Path) -> None:
    shards = write_shards(str(tmp_path), size_limit=1 << 20)
    agent = DataAgent(0.5, selector={"name": "loss", "egress_weight": 0.2})
    with pytest.raises(ValueError, match=r"egress_weight=0\.2.*several shards"):
        build_trainer(make_loader(shards), agent).fit()


def test_it_is_one_of_the_settings() -> None:
    """That a checkpoint and a history belong to; where it is not given, they are as they were."""
    weighed = DataAgent(selector={"egress_weight": 0.2, "name": "data_agent"})
    assert weighed.plain_settings()["selector"]["egress_weight"] == 0.2
    assert "egress_weight" not in DataAgent().plain_settings()["selector"]
    assert "'egress_weight': 0.2" in repr(weighed)
    with pytest.raises(ValueError, match=r"egress_weight=-1"):
        DataAgent(selector={"name": "data_agent", "egress_weight": -1})


def test_shards_tell_how_many_samples_they_have(many_shards: str) -> None:
    loader = make_loader(many_shards)
    shards = attach(loader.dataset, loader).shards()
    np.testing.assert_array_equal(np.cumsum(shards.samples), _bounds(many_shards))
    assert len(shards.stream) == len(shards.bytes_per_sample) == len(shards.samples)
    of_map = attach((loader := make_map_loader()).dataset, loader).shards()
    assert of_map.samples.tolist() == [NUM_SAMPLES]
