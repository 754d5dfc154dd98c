# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Recipes that run: with other algorithms, again, after a change, after a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from composer.algorithms import EMA, LabelSmoothing

from composer_dataagent import DataAgent
from composer_dataagent.recipes import Recipe, RecipeError, build_trainer, is_finished, train
from composer_dataagent.report import read_run

MakeRecipe = Callable[..., Recipe]


def test_with_label_smoothing_ema_callbacks_and_loggers(recipe: MakeRecipe, tmp_path: Path) -> None:
    made = recipe(
        "trainer.max_duration=2ep",
        "algorithms.label_smoothing.smoothing=0.1",
        "algorithms.ema.half_life=10ba",
        "callbacks.lr_monitor={}",
        f"loggers.file.filename={tmp_path}/log.txt",
    )
    trainer = build_trainer(made)
    assert [type(a) for a in trainer.state.algorithms] == [DataAgent, LabelSmoothing, EMA]
    trainer.close()
    run = read_run(train(made))
    assert [row["selected"] for row in run.rows] == [1437, 719]
    assert run.rows[-1]["metrics"]["eval/MulticlassAccuracy"] > 0.3
    assert "data_agent/coverage" in (tmp_path / "log.txt").read_text()
    assert len(run.samples) > 0  # thumbnails
    assert all(sample["png"] for sample in run.samples.values())


def test_a_finished_run_is_not_trained_again(recipe: MakeRecipe) -> None:
    made = recipe("trainer.max_duration=1ep")
    assert not is_finished(made)
    history = train(made) / "history.jsonl"
    before = history.read_bytes()
    assert is_finished(made)
    train(made)
    assert history.read_bytes() == before


def test_a_longer_run_goes_on_from_the_checkpoint(recipe: MakeRecipe) -> None:
    run_dir = train(recipe("trainer.max_duration=1ep"))
    first = read_run(run_dir).rows
    train(recipe("trainer.max_duration=2ep"))
    rows = read_run(run_dir).rows
    assert rows[:1] == first and [row["epoch"] for row in rows] == [0, 1]


def test_another_recipe_does_not_touch_the_run(recipe: MakeRecipe) -> None:
    run_dir = train(recipe("trainer.max_duration=1ep"))
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    changed = "algorithms.data_agent.ratio=0.3"
    with pytest.raises(
        RecipeError, match=r"algorithms\.data_agent\.ratio=0\.5.*has 0\.3.*overwrite=true"
    ):
        train(recipe("trainer.max_duration=1ep", changed))
    with pytest.raises(RecipeError, match="optimizer"):  # refused before anything is removed
        train(recipe("trainer.max_duration=1ep", changed, "overwrite=true", "optimizer.lr=no"))
    assert before == {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}

    train(recipe("trainer.max_duration=2ep", changed, "overwrite=true"))
    assert [row["selected"] for row in read_run(run_dir).rows] == [1437, 431]
    stored = json.loads((run_dir / "recipe.json").read_text())
    assert stored["algorithms"]["data_agent"]["ratio"] == 0.3


def test_a_damaged_recipe_file_is_an_error(recipe: MakeRecipe) -> None:
    made = recipe("trainer.max_duration=1ep")
    Path(made.run_dir).mkdir()
    (Path(made.run_dir) / "recipe.json").write_text("{")
    with pytest.raises(RecipeError, match=r"recipe\.json is damaged"):
        train(made)


@pytest.mark.parametrize(
    "scheduler",
    [
        "{name: one_cycle_lr, max_lr: 0.01, total_steps: 37}",
        "{name: multi_step, milestones: [1ep, 2ep]}",
        "linear",
        "null",
    ],
)
def test_schedulers(recipe: MakeRecipe, scheduler: str) -> None:
    # 12 batches in a full epoch; the native one is stepped by Composer once an epoch by default.
    every_batch = "one_cycle" in scheduler
    made = recipe(
        "trainer.max_duration=3ep",
        f"scheduler={scheduler}",
        *["trainer.step_schedulers_every_batch=true"] * every_batch,
    )
    rates = [row["learning_rate"] for row in read_run(train(made)).rows]
    if scheduler == "null":
        assert len(set(rates)) == 1
    else:
        assert rates[-1] < 0.4 * rates[0]


def test_a_full_run_without_the_algorithm(recipe: MakeRecipe) -> None:
    plain: dict[str, Any] = recipe("trainer.max_duration=1ep").model_dump()
    plain["algorithms"] = {}
    run_dir = train(Recipe.model_validate(plain))
    assert not (run_dir / "history.jsonl").exists()
