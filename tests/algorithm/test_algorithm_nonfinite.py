# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Training goes on through NaN and infinities: counted, told, and kept out of the agent."""

from __future__ import annotations

import logging
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from composer.core import Callback
from composer.loggers import InMemoryLogger
from digits_run import NUM_SAMPLES, Recorder, StoredDigits, make_model, weights_of
from sound_runs import assert_sound
from spoiled_model import in_batch, inky, spoiled_model

from composer_dataagent import DataAgent
from composer_dataagent.report import read_run

INKY = np.flatnonzero(inky(StoredDigits().x, 0).numpy())
CLEAN = np.setdiff1d(np.arange(NUM_SAMPLES), INKY)
FULL, HALF = 13, 7  # batches of 16 in a full epoch and in one of half the samples


@pytest.mark.parametrize(
    ("arguments", "spoil"),
    [
        ({}, {}),
        ({}, {"value": math.inf}),
        ({}, {"value": -math.inf}),
        ({"state": "both", "head": "head"}, {"value": math.inf}),
        ({"state": "both", "head": "head"}, {"features": True}),
        ({"state": "features", "head": "head"}, {"features": True, "value": math.inf}),
        ({"state": "features", "head": "head"}, {"features": True, "value": 3e38}),
        ({"preset": "paper", "head": "head"}, {"features": True}),
        ({"selector": "infobatch"}, {}),
        ({"selector": "ucb"}, {}),
    ],
    ids=str,
)
def test_samples_for_which_the_model_always_breaks(
    make_trainer: Any,
    run_dir: str,
    caplog: pytest.LogCaptureFixture,
    arguments: dict[str, Any],
    spoil: dict[str, Any],
) -> None:
    model = spoiled_model(inky, **spoil)
    agent = DataAgent(ratio=0.5, run_dir=run_dir, **arguments)
    recorder, logged = Recorder(), InMemoryLogger()
    before = weights_of(make_trainer(model=model))
    with caplog.at_level(logging.WARNING, "composer_dataagent"):
        trainer = make_trainer(agent, model=model, callbacks=[recorder], loggers=[logged])
        trainer.fit()

    broken = [len(set(ids) & set(INKY)) for ids in recorder.by_epoch()]
    assert broken[0] == len(INKY) > 20
    assert [row["nonfinite"] for row in read_run(run_dir).rows] == broken
    assert [value for _, value in logged.data["data_agent/nonfinite"]] == broken
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == sum(count > 0 for count in broken)
    assert f"in {broken[0]} of the visits of epoch 0, for example sample id" in told[0]
    assert any(f"id {i}:" in told[0] for i in INKY)

    assert_sound(trainer, agent)
    assert not any(torch.equal(before[k], w) for k, w in weights_of(trainer).items() if w.dim() > 0)
    assert (agent.ledger.visits[INKY] >= 1).all()  # seen, and settled for want of better knowledge
    assert (agent.ledger.loss[INKY] == 0).all() and (agent.ledger.max_prob[INKY] == 1).all()
    assert (agent.ledger.agreement[INKY] == 1).all()
    assert (agent.ledger.loss[CLEAN] > 0).all()
    assert (agent.ledger.label >= 0).all()  # labels are the data's, not the model's
    losses = [row["mean_loss"] for row in read_run(run_dir).rows]
    assert 1 < losses[0] < 3  # of the finite ones alone
    learned = [sum(row["action_histogram"] or []) for row in read_run(run_dir).rows]
    sound = [len(set(ids) - set(INKY)) for ids in recorder.by_epoch()]
    assert learned == (sound if agent._judge.learner else [0, 0, 0])


@pytest.mark.parametrize(
    "arguments",
    [{}, {"state": "features", "head": "head"}, {"state": "both", "head": "head"}],
    ids=str,
)
def test_the_policy_learns_nothing_from_a_batch_that_breaks(
    make_trainer: Any, arguments: dict[str, str]
) -> None:
    class Digests(Callback):
        def fit_start(self, state: Any, logger: Any) -> None:
            self.seen = [agent._judge.learner.digest()]  # type: ignore[union-attr]

        def batch_end(self, state: Any, logger: Any) -> None:
            self.seen.append(agent._judge.learner.digest())  # type: ignore[union-attr]

    broken, digests = [0, 5, FULL + 2], Digests()
    agent = DataAgent(update_interval=1, **arguments)  # type: ignore[arg-type]
    make_trainer(
        agent,
        model=spoiled_model(in_batch(*broken), features="state" in arguments),
        callbacks=[digests],
        epochs=2,
    ).fit()
    learned = [before != after for before, after in pairwise(digests.seen)]
    assert [batch for batch, has in enumerate(learned) if not has] == broken


@pytest.mark.parametrize("state", ["signals", "features"])
def test_a_batch_that_breaks_leaves_what_is_known_as_it_was(
    make_trainer: Any, run_dir: str, state: str
) -> None:
    """As a half-precision overflow does, whose step a gradient scaler skips."""

    class Known(Callback):
        def epoch_end(self, state: Any, logger: Any) -> None:
            columns = ("loss", "entropy", "max_prob", "agreement")
            self.epoch = {name: getattr(agent.ledger, name).copy() for name in columns}
            if agent.ledger.score is not None:
                self.epoch["score"] = agent.ledger.score.copy()
            if int(state.timestamp.epoch) == 1:
                self.first = self.epoch

    known, recorder = Known(), Recorder()
    agent = DataAgent(state=state, run_dir=run_dir, update_interval=4)
    trainer = make_trainer(
        agent, model=spoiled_model(in_batch(FULL + 2)), callbacks=[recorder, known], epochs=2
    )
    trainer.fit()
    (epoch, broken), *_ = [batch for n, batch in enumerate(recorder.ids) if n == FULL + 2]
    assert epoch == 1 and [row["nonfinite"] for row in read_run(run_dir).rows] == [0, 16]
    assert (agent.ledger.last_seen[broken] == 1).all() and (agent.ledger.visits[broken] == 2).all()
    others = [i for i in recorder.by_epoch()[1] if i not in broken]
    columns = ("loss", "entropy", "max_prob", "agreement")
    for name in (*columns, "score") if state == "features" else columns:
        np.testing.assert_array_equal(known.epoch[name][broken], known.first[name][broken], name)
        assert (known.epoch[name][others] != known.first[name][others]).mean() > 0.5, name
    assert_sound(trainer, agent)


def test_a_model_that_diverged_spoils_neither_ledger_nor_agent(
    make_trainer: Any, run_dir: str
) -> None:
    class Diverges(Callback):
        def epoch_end(self, state: Any, logger: Any) -> None:
            self.loss = agent.ledger.loss.copy()
            with torch.no_grad():
                for parameter in state.model.parameters():
                    parameter.fill_(torch.nan)

    diverges = Diverges()
    agent = DataAgent(run_dir=run_dir, update_interval=3)
    trainer = make_trainer(agent, callbacks=[diverges])
    trainer.fit()
    half = round(NUM_SAMPLES / 2 + 0.01)
    rows = read_run(run_dir).rows
    assert [row["nonfinite"] for row in rows] == [0, half, half]
    assert rows[1]["mean_loss"] is None  # nothing was seen of it
    np.testing.assert_array_equal(agent.ledger.loss, diverges.loss)
    assert_sound(trainer, agent)


@pytest.mark.parametrize(
    ("update_interval", "max_duration", "trained"),
    [(4, "3ep", 5), (1000, "3ep", FULL), (1000, "3ba", 3)],
    ids=["at the next update", "at the epoch's end", "where training stops"],
)
def test_it_can_be_an_error(
    make_trainer: Any, update_interval: int, max_duration: str, trained: int
) -> None:
    recorder = Recorder()
    agent = DataAgent(on_nonfinite="raise", update_interval=update_interval)
    trainer = make_trainer(
        agent,
        model=spoiled_model(in_batch(1)),
        callbacks=[recorder],
        max_duration=max_duration,
    )
    with pytest.raises(RuntimeError, match=r"for 16 samples of epoch 0 .*on_nonfinite='skip'") as e:
        trainer.fit()
    assert len(recorder.ids) == trained
    examples = ", ".join(str(i) for i in recorder.ids[1][1][:5])
    assert f"(ids {examples}, ...)" in str(e.value)
    make_trainer(DataAgent(on_nonfinite="raise"), model=make_model(), epochs=2).fit()


def test_a_count_survives_a_checkpoint(make_trainer: Any, run_dir: str, tmp_path: Any) -> None:
    where = {"save_folder": str(tmp_path / "saved"), "save_interval": "1ba"}
    make_trainer(DataAgent(), model=spoiled_model(inky), max_duration="6ba", **where).fit()
    make_trainer(
        DataAgent(run_dir=run_dir),
        model=spoiled_model(inky),
        epochs=1,
        load_path=str(tmp_path / "saved" / "ep0-ba6-rank0.pt"),
    ).fit()
    assert [row["nonfinite"] for row in read_run(run_dir).rows] == [len(INKY)]
