# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whoever looks at the folder of a run sees how far it is while it trains, and that it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from composer.core import Callback
from digits_run import NUM_SAMPLES, build_trainer, make_loader

from composer_dataagent import DataAgent
from composer_dataagent.report import pulse, read_run
from composer_dataagent.report.pulse import Standing
from composer_dataagent.report.standing import is_over

BATCH = 16
BATCHES = -(-NUM_SAMPLES // BATCH)


class Onlooker(Callback):
    """Reads the run folder after each batch, which algorithms have heard of then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[Standing] = []

    def batch_end(self, state: Any, logger: Any) -> None:
        del state, logger
        standing = read_run(self.folder).standing
        assert standing is not None
        self.seen.append(standing)


def train(
    folder: Path, shards: str, *, max_duration: str = "2ep", **kwargs: Any
) -> tuple[Onlooker, Standing]:
    onlooker = Onlooker(folder)
    agent = DataAgent(0.5, selector="random", run_dir=str(folder))
    trainer = build_trainer(
        make_loader(shards), agent, callbacks=[onlooker], max_duration=max_duration, **kwargs
    )
    trainer.fit()
    standing = read_run(folder).standing
    trainer.close()
    assert standing is not None
    return onlooker, standing


def test_each_batch_can_be_followed(
    tmp_path: Path, shards: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "BEAT_SECONDS", 0.0)
    onlooker, after = train(tmp_path, shards)
    epochs = [standing.epochs for standing in onlooker.seen]
    assert epochs[0] == pytest.approx(BATCH / NUM_SAMPLES)
    assert epochs == sorted(set(epochs)) and epochs[BATCHES - 1] == 1.0 and epochs[-1] == 2.0
    assert {(each.state, each.alive, each.of) for each in onlooker.seen} == {("running", True, 2)}
    rows = [each.row_age is not None for each in onlooker.seen]
    assert rows == [False] * BATCHES + [True] * (len(rows) - BATCHES)
    assert after.state == "ended" and after.epochs == 2.0


def test_signs_of_life_are_few(
    tmp_path: Path, shards: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "BEAT_SECONDS", 3600.0)
    onlooker, _ = train(tmp_path, shards)
    assert {standing.epochs for standing in onlooker.seen} == {0.0, 1.0}  # rows only


def test_a_run_that_ends_inside_an_epoch_has_ended(tmp_path: Path, shards: str) -> None:
    _, after = train(tmp_path, shards, max_duration="6ba")
    assert after.state == "ended" and after.of is None
    assert after.epochs == pytest.approx(6 * BATCH / NUM_SAMPLES)


def test_the_evaluation_after_the_end_is_waited_for(tmp_path: Path, shards: str) -> None:
    over: list[bool] = []

    class Evaluated(Callback):
        def eval_start(self, state: Any, logger: Any) -> None:
            del state, logger
            over.append(is_over(read_run(tmp_path)))

    evaluations = {"eval_dataloader": make_loader(shards, drop_last=False), "eval_interval": "2ep"}
    agent = DataAgent(0.5, selector="random", run_dir=str(tmp_path))
    trainer = build_trainer(
        make_loader(shards), agent, callbacks=[Evaluated()], max_duration="3ep", **evaluations
    )
    trainer.fit()
    assert over == [False, False]
    run = read_run(tmp_path)
    assert is_over(run) and run.rows[-1]["metrics"]
    trainer.close()


def test_a_run_that_fails_does_not_say_that_it_has_ended(
    tmp_path: Path, shards: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "BEAT_SECONDS", 3600.0)

    class Failing(Callback):
        def batch_end(self, state: Any, logger: Any) -> None:
            del logger
            if int(state.timestamp.batch) == BATCHES + 2:
                raise RuntimeError("mine")

    agent = DataAgent(0.5, selector="random", run_dir=str(tmp_path))
    trainer = build_trainer(make_loader(shards), agent, callbacks=[Failing()])
    with pytest.raises(RuntimeError, match="mine"):
        trainer.fit()
    standing = read_run(tmp_path).standing
    assert standing is not None and standing.state == "running" and standing.epochs == 1.0
    trainer.close()
