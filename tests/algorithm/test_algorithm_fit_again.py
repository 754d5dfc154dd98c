# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``fit()`` again in the same process: after an error, or with Composer's clock at 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from composer.core import Callback
from digits_run import Recorder, build_trainer, make_loader, make_map_loader, weights_of

from composer_dataagent import DataAgent
from composer_dataagent.report.history import read_rows
from composer_dataagent.selection.selectors import RandomSelector

BATCH = 8


class InterruptedOnce(Callback):
    """Ctrl-C as one batch is about to be trained on."""

    def __init__(self, batch: int | None) -> None:
        self.batch = batch

    def batch_start(self, state: Any, logger: Any) -> None:
        if int(state.timestamp.batch) == self.batch:
            self.batch = None
            raise KeyboardInterrupt


def _loader(kind: str, shards: str, workers: int) -> Any:
    loader: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    if kind == "map":
        return make_map_loader(batch_size=BATCH, **loader)
    return make_loader(shards, batch_size=BATCH, **loader)


@pytest.mark.parametrize("kind", ["streaming", "map"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("interval", "batches"),
    # A full epoch has 26 batches, a pruned one 13; a full round 7, a pruned one 4.
    [(None, [0, 1, 26]), ("0.25ep", [0, 7, 9, 19])],
)
def test_a_run_that_was_interrupted_goes_on(
    shards: str, kind: str, workers: int, interval: str | None, batches: list[int]
) -> None:
    """Also in the first batch of an epoch or round, when it has not trained on anything yet."""
    runs = []
    for batch in (None, *batches):
        recorder, agent = Recorder(), DataAgent(0.5, interval=interval, state="both")
        trainer = build_trainer(
            _loader(kind, shards, workers),
            agent,
            epochs=2,
            callbacks=[InterruptedOnce(batch), recorder],
        )
        if batch is not None:
            with pytest.raises(KeyboardInterrupt):
                trainer.fit()
        trainer.fit()
        trainer.close()
        runs.append((recorder.ids, weights_of(trainer)))
    whole, *interrupted = runs
    for ids, weights in interrupted:
        assert ids == whole[0]
        assert all(torch.equal(weight, whole[1][name]) for name, weight in weights.items())


class InterruptedRule(RandomSelector):
    """Ctrl-C while the fourth selection is made, once."""

    name, summary = "interrupted", "interrupted"

    def __init__(self) -> None:
        self._calls = 0

    def select(self, ledger: Any, size: int, rng: Any) -> Any:
        self._calls += 1
        if self._calls == 4:
            raise KeyboardInterrupt
        return super().select(ledger, size, rng)


@pytest.mark.parametrize("kind", ["streaming", "map"])
@pytest.mark.parametrize("interval", [None, "0.25ep"])
def test_a_selection_that_was_interrupted_is_made_again(
    shards: str, kind: str, interval: str | None
) -> None:
    runs = []
    for selector in (InterruptedRule(), "random"):
        recorder, agent = Recorder(), DataAgent(0.5, interval=interval, selector=selector)
        trainer = build_trainer(_loader(kind, shards, 0), agent, epochs=4, callbacks=[recorder])
        if selector != "random":
            with pytest.raises(KeyboardInterrupt):
                trainer.fit()
        trainer.fit()
        trainer.close()
        runs.append([ids for _, ids in recorder.ids])
    assert runs[0] == runs[1]


def test_a_checkpoint_from_inside_an_epoch_with_the_clock_at_0(shards: str, tmp_path: Path) -> None:
    saved: dict[str, Any] = {
        "save_folder": str(tmp_path),
        "save_interval": "3ba",
        "max_duration": "3ba",
    }
    build_trainer(_loader("map", shards, 0), DataAgent(), schedulers=None, **saved).fit()
    (path,) = tmp_path.glob("ep0-ba3-rank0.pt")
    trainer = build_trainer(
        _loader("map", shards, 0),
        DataAgent(),
        load_path=str(path),
        max_duration=None,
        schedulers=None,
    )
    with pytest.raises(RuntimeError, match=r"inside an epoch, which fit\(reset_time=True\)"):
        trainer.fit(duration="1ep", reset_time=True)


@pytest.mark.parametrize("kind", ["streaming", "map"])
@pytest.mark.parametrize("interval", [None, "0.25ep"])
@pytest.mark.parametrize("batches", [3, 9])
def test_with_the_clock_at_0_the_next_epoch_begins(
    shards: str, kind: str, interval: str | None, batches: int, run_dir: str
) -> None:
    recorder, agent = Recorder(), DataAgent(0.5, interval=interval, run_dir=run_dir)
    trainer = build_trainer(
        _loader(kind, shards, 0),
        agent,
        callbacks=[recorder],
        max_duration=f"{batches}ba",
        schedulers=None,
    )
    trainer.fit()
    trainer.fit(duration="2ep", reset_time=True)
    trainer.close()
    ids = [i for _, batch in recorder.ids[batches:] for i in batch]
    # What it knows stays: there is no other warm-up.
    per_epoch = sum((count + 1) // 2 for count in ([50, 51, 51, 51] if interval else [203]))
    assert len(ids) == 2 * per_epoch
    assert all(len(set(part)) == per_epoch for part in (ids[:per_epoch], ids[per_epoch:]))
    rounds = [row["epoch"] for row in read_rows(Path(run_dir))]
    assert rounds == sorted(set(rounds))
    assert agent.ledger.visits.sum() == sum(len(ids) for _, ids in recorder.ids)
