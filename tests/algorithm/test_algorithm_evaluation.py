# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What evaluators measure reaches the history, whenever they run."""

from __future__ import annotations

from typing import Any

import pytest
from composer.core import Evaluator
from digits_run import CLASSES, NUM_SAMPLES, make_loader, make_model
from torchmetrics.classification import MulticlassAccuracy

from composer_dataagent import DataAgent
from composer_dataagent.report import read_run

ACCURACY = "eval/MulticlassAccuracy"


def final_accuracy(trainer: Any) -> float:
    return float(trainer.state.eval_metrics["eval"]["MulticlassAccuracy"].compute())


def train(make_trainer: Any, run_dir: str, shards: str, **kwargs: Any) -> tuple[Any, list[Any]]:
    kwargs.setdefault("eval_dataloader", make_loader(shards, batch_size=64))
    trainer = make_trainer(DataAgent(run_dir=run_dir), **kwargs)
    trainer.fit()
    return trainer, read_run(run_dir).rows


@pytest.mark.parametrize(
    ("eval_interval", "evaluated"),
    [("1ep", [0, 1, 2]), ("2ep", [1, 2]), ("5ba", [0, 1, 2]), ("20ba", [1, 2])],
)
def test_every_interval(
    make_trainer: Any, run_dir: str, shards: str, eval_interval: str, evaluated: list[int]
) -> None:
    """Composer evaluates the last epoch after the end of fit() if the interval does not hit it."""
    trainer, rows = train(make_trainer, run_dir, shards, eval_interval=eval_interval)
    assert [row["epoch"] for row in rows if row.get("metrics")] == evaluated
    assert rows[-1]["metrics"][ACCURACY] == pytest.approx(final_accuracy(trainer))


def test_two_evaluators_on_different_intervals(
    make_trainer: Any, run_dir: str, shards: str
) -> None:
    loader = make_loader(shards, batch_size=64)
    evaluators = [
        Evaluator(label=label, dataloader=loader, eval_interval=interval)
        for label, interval in (("often", "1ep"), ("seldom", "2ep"))
    ]
    _, rows = train(make_trainer, run_dir, shards, eval_dataloader=evaluators)
    labels = [sorted({name.split("/")[0] for name in row["metrics"]}) for row in rows]
    assert labels == [["often"], ["often", "seldom"], ["often", "seldom"]]


def test_a_metric_that_is_no_number_is_left_out(
    make_trainer: Any, run_dir: str, shards: str
) -> None:
    model = make_model()
    metrics: Any = model.val_metrics
    metrics["PerClass"] = MulticlassAccuracy(CLASSES, average=None)
    _, rows = train(make_trainer, run_dir, shards, model=model, epochs=1)
    assert ACCURACY in rows[0]["metrics"] and "eval/PerClass" not in rows[0]["metrics"]


def test_a_run_that_ends_inside_an_epoch(make_trainer: Any, run_dir: str, shards: str) -> None:
    trainer, rows = train(make_trainer, run_dir, shards, max_duration="15ba")
    assert [row["epoch"] for row in rows] == [0, 1]
    assert rows[-1]["samples_seen"] == NUM_SAMPLES + 2 * 16 == int(trainer.state.timestamp.sample)
    assert rows[-1]["metrics"][ACCURACY] == pytest.approx(final_accuracy(trainer))

    trainer.fit(duration="5ba")  # and goes on: the rest of the epoch
    rows = read_run(run_dir).rows
    assert [row["epoch"] for row in rows] == [0, 1]
    assert rows[-1]["samples_seen"] == NUM_SAMPLES + 102
    assert rows[-1]["metrics"][ACCURACY] == pytest.approx(final_accuracy(trainer))
