# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Runs at the edge of what makes sense still train, and end with a sound agent and ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from composer.models import ComposerClassifier
from digits_run import CLASSES, NUM_SAMPLES, Recorder, StoredDigits, make_loader
from sound_runs import assert_sound
from torch import Tensor, nn

from composer_dataagent import DataAgent
from composer_dataagent.report import read_run
from composer_dataagent.selection import Selection, Selector

HALF = round(NUM_SAMPLES / 2 + 0.01)
STATES = ["signals", "features", "both"]


class Constant(nn.Module):
    """Logits that depend neither on the input nor on what was learned."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return 0.0 * self.head(x.flatten(1))


@pytest.mark.parametrize("reward", ["budget", "paper"])
@pytest.mark.parametrize("state", STATES)
def test_all_losses_are_equal(make_trainer: Any, run_dir: str, state: str, reward: str) -> None:
    agent = DataAgent(state=state, reward=reward, run_dir=run_dir, update_interval=3)
    recorder = Recorder()
    model = ComposerClassifier(Constant(), num_classes=CLASSES)
    trainer = make_trainer(agent, model=model, callbacks=[recorder])
    trainer.fit()
    assert [len(ids) for ids in recorder.by_epoch()] == [NUM_SAMPLES, HALF, HALF]
    np.testing.assert_allclose(agent.ledger.loss, np.log(CLASSES), rtol=1e-5)
    rows = read_run(run_dir).rows
    assert [row["difficulty"] for row in rows] == [0, 0, 0]
    assert all(np.isfinite(list(row["ppo"].values())).all() for row in rows)
    assert_sound(trainer, agent)


@pytest.mark.parametrize("selector", ["data_agent", "infobatch", "loss", "ucb"])
@pytest.mark.parametrize("batch_size", [101, 1])
def test_batches_of_one_sample(
    make_trainer: Any, shards: str, batch_size: int, selector: str
) -> None:
    """The last of each epoch (203 and 102 samples in batches of 101), or all of them."""
    state = "both" if selector == "data_agent" else None
    agent = DataAgent(selector=selector, state=state, update_interval=2 if batch_size > 1 else 64)
    recorder = Recorder()
    loader = make_loader(shards, batch_size=batch_size)
    trainer = make_trainer(agent, loader=loader, callbacks=[recorder], epochs=2)
    trainer.fit()
    assert [len(ids) for ids in recorder.by_epoch()] == [NUM_SAMPLES, HALF]
    for epoch in (0, 1):
        assert len([ids for e, ids in recorder.ids if e == epoch][-1]) == 1
    assert (agent.ledger.loss > 0).all()
    assert_sound(trainer, agent)


@dataclass
class ClassesInTurn(Selector):
    """Low labels first, everything later; the agent learns, but is not asked."""

    name = "in turn"
    summary = "labels below 5, then all"
    uses_score = True
    seen: list[int] = field(default_factory=list)

    def select(self, ledger: Any, size: int, rng: Any) -> Selection:
        labels = np.array(StoredDigits().y)
        self.seen.append(ledger.coverage())
        wanted = labels < 5 if len(self.seen) <= 2 else labels >= 0
        return Selection(np.flatnonzero(wanted))


@pytest.mark.parametrize("state", STATES)
def test_classes_that_come_late_and_classes_that_never_come(
    make_trainer: Any, run_dir: str, state: str
) -> None:
    torch.manual_seed(3)
    classes = 2 * CLASSES  # half of them without a sample
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, classes))
    agent = DataAgent(selector=ClassesInTurn(), state=state, run_dir=run_dir, update_interval=3)
    trainer = make_trainer(
        agent, model=ComposerClassifier(net, num_classes=classes), epochs=4, callbacks=[Recorder()]
    )
    trainer.fit()
    rows = read_run(run_dir).rows
    low = sum(label < 5 for label in StoredDigits().y)
    assert [sum(row["class_total"].values()) for row in rows] == [low, low, *2 * [NUM_SAMPLES]]
    assert [len(row["class_total"]) for row in rows] == [5, 5, CLASSES, CLASSES]
    assert sorted(set(agent.ledger.label.tolist())) == list(range(CLASSES))
    assert agent.selector.seen[:2] == [0, low / NUM_SAMPLES]  # type: ignore[attr-defined]
    assert_sound(trainer, agent)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    ("update_interval", "updates"), [(50, [1, 1, 1]), (5, [3, 1, 1]), (1, [13, 7, 7])]
)
def test_an_epoch_of_any_length_ends_with_an_update(
    make_trainer: Any, run_dir: str, state: str, update_interval: int, updates: list[int]
) -> None:
    """13, 7 and 7 batches, cut into equal parts: none is left for the next epoch."""

    agent = DataAgent(state=state, run_dir=run_dir, update_interval=update_interval)
    recorder = Recorder()
    trainer = make_trainer(agent, callbacks=[recorder])
    trainer.fit()
    rows = read_run(run_dir).rows
    assert [row["updates"] for row in rows] == updates
    assert all(row["ppo"] for row in rows)
    assert [len(ids) for ids in recorder.by_epoch()] == [NUM_SAMPLES, HALF, HALF]
    assert [row["nonfinite"] for row in rows] == [0, 0, 0]
    assert_sound(trainer, agent)
