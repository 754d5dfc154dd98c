# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Runs are averaged if they differ in their seeds only, and labels name what else differs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from report_rows import make_run
from synthetic_run import write_run

from composer_dataagent.recipes import load_recipe
from composer_dataagent.recipes.demo import RECIPE, SELECTORS
from composer_dataagent.recipes.run import RECIPE_FILE
from composer_dataagent.report import Run, read_run
from composer_dataagent.report.summary import group_runs


def run_of(*overrides: str, **meta: Any) -> Run:
    """A run as the command line makes one, with the agent's settings in its meta."""
    recipe = load_recipe(RECIPE, overrides).model_dump(mode="json", exclude={"overwrite"})
    meta = {
        "ratio": 0.5,
        "preset": "default",
        "state": "signals",
        "seed": recipe["seed"],
        "num_samples": 1437,
        "num_epochs": 12,
        **meta,
    }
    return make_run("data_agent", [], path=recipe["run_dir"], recipe=recipe, **meta)


def sizes(runs: Iterable[Run]) -> dict[str, int]:
    return {label: len(group) for label, group in group_runs(runs).items()}


def test_the_runs_of_the_demo_are_named_by_their_selector(tmp_path: Path) -> None:
    for seed in range(2):
        for selector in SELECTORS:
            run = write_run(tmp_path, selector, seed=seed, epochs=1, samples=False)
            name = f"{selector}-seed{seed}"
            recipe = load_recipe(
                RECIPE,
                [
                    f"run_name={name}",
                    f"seed={seed}",
                    f"algorithms.data_agent.selector={selector}",
                ],
            )
            plain = recipe.model_dump(mode="json", exclude={"overwrite"})
            (run.path / RECIPE_FILE).write_text(json.dumps(plain))
    runs = [read_run(path.parent) for path in sorted(tmp_path.glob("*/meta.json"))]
    assert all(run.recipe["optimizer"]["name"] == "adam" for run in runs)
    assert sizes(runs) == dict.fromkeys(sorted(SELECTORS), 2)


@pytest.mark.parametrize(
    ("override", "labels"),
    [
        ("optimizer.lr=0.01", ["optimizer.lr 0.003", "optimizer.lr 0.01"]),
        ("optimizer.name=sgd", ["optimizer adam", "optimizer sgd"]),
        ("optimizer.weight_decay=0.1", ["", "optimizer.weight_decay 0.1"]),
        ("scheduler=constant", ["scheduler cosine_annealing", "scheduler constant"]),
        ("model.name=other", ["model small_cnn", "model other"]),
        (
            "train_loader.batch_size=32",
            ["train_loader.batch_size 64", "train_loader.batch_size 32"],
        ),
        (
            "train_loader.dataset.local=noisy/train",
            [
                "train_loader.dataset.local data/digits/train",
                "train_loader.dataset.local noisy/train",
            ],
        ),
        ("algorithms.data_agent.reward=paper", ["", "reward paper"]),
        ("algorithms.data_agent.rescale=true", ["", "rescale true"]),
        ("algorithms.data_agent.selector.explore=null", ["", "selector.explore null"]),
        ("algorithms.label_smoothing.smoothing=0.1", ["", "label_smoothing.smoothing 0.1"]),
        ("algorithms.ema=null", ["", "ema on"]),
        ("callbacks.EarlyStopper.patience=2ep", ["", "callbacks.EarlyStopper.patience 2ep"]),
        (
            "callbacks.load_checkpoint.load_path=a.pt",
            ["", "callbacks.load_checkpoint.load_path a.pt"],
        ),
        ("trainer.precision=amp_bf16", ["", "precision amp_bf16"]),
    ],
)
def test_whatever_changes_what_is_learnt_is_told_apart(override: str, labels: list[str]) -> None:
    runs = [run_of(), run_of("seed=1"), run_of(override), make_run("full", [])]
    expected = [f"data_agent, {label}" if label else "data_agent" for label in labels]
    assert sizes(runs) == {expected[0]: 2, expected[1]: 1, "full": 1}


@pytest.mark.parametrize(
    "override",
    [
        "run_name=second",
        "run_dir=elsewhere",
        "loggers.file.filename=log.txt",
        "callbacks.lr_monitor=null",
        "callbacks.checkpoint_saver.folder=elsewhere",
        "train_loader.num_workers=4",
        "eval_loader.pin_memory=true",
        "trainer.save_folder=elsewhere",
        "trainer.progress_bar=false",
        "algorithms.data_agent=null",
        "algorithms.data_agent.run_dir=elsewhere",
        "algorithms.data_agent.class_names=[a,b]",
        "algorithms.data_agent.seed=5",
        "algorithms.data_agent.selector=data_agent",
        "algorithms.data_agent.selector.name=data_agent",
        "train_loader.dataset.shuffle_seed=3",
    ],
)
def test_whatever_else_differs_does_not_matter(override: str) -> None:
    assert sizes([run_of(), run_of("seed=1"), run_of(override)]) == {"data_agent": 3}


def test_the_length_is_named_once() -> None:
    runs = [run_of(f"trainer.max_duration={n}ep", num_epochs=n) for n in (12, 24)]
    assert list(group_runs(runs)) == ["data_agent, num_epochs 12", "data_agent, num_epochs 24"]
    runs = [run_of(f"trainer.max_duration={n}ba", num_epochs=None) for n in (300, 600)]
    assert list(group_runs(runs)) == [
        "data_agent, max_duration 300ba",
        "data_agent, max_duration 600ba",
    ]


def test_without_a_recipe_the_settings_in_meta_count() -> None:
    runs = [
        make_run("loss", [], settings={"selector": {"name": "loss"}, "head": None}, seed=0),
        make_run("loss", [], settings={"selector": "loss", "head": None}, seed=1),
        make_run("loss", [], settings={"selector": {"name": "loss", "explore": 1.0}, "head": None}),
        make_run("loss", [], settings={"selector": "loss", "head": "model.fc"}),
    ]
    assert sizes(runs) == {
        "loss, head null": 2,
        "loss, selector.explore 1.0, head null": 1,
        "loss, head model.fc": 1,
    }


def test_what_meta_says_of_the_agent_goes_before_the_recipe() -> None:
    """A default that is written out is still the default."""
    settings = {"ratio": 0.5, "reward": "budget"}
    runs = [
        run_of(settings=settings),
        run_of("algorithms.data_agent.reward=budget", "seed=1", settings=settings),
        run_of("~algorithms.data_agent.ratio", "seed=2", settings=settings),
    ]
    assert sizes(runs) == {"data_agent": 3}


def test_runs_that_fetch_in_other_ways_are_told_apart() -> None:
    """Their costs differ. Of the recipe's own words nothing is taken: those may be the defaults."""
    by_sample: dict[str, Any] = {"fetch": "samples", "costs": {"dollars_per_gb": 0.05}}
    given = [
        "algorithms.data_agent.fetch=samples",
        "algorithms.data_agent.costs.dollars_per_gb=0.05",
    ]
    runs = [
        run_of(),
        run_of("algorithms.data_agent.fetch=shards", "algorithms.data_agent.costs={}", "seed=1"),
        run_of(*given, **by_sample),
        run_of(*given, "seed=1", **by_sample),
    ]
    assert sizes(runs) == {
        "data_agent": 2,
        "data_agent, fetch samples, costs.dollars_per_gb 0.05": 2,
    }


def test_long_values_are_cut_where_they_say_least() -> None:
    runs = [run_of(f"train_loader.dataset.local=/{'long/' * 20}{n}") for n in "ab"]
    for label, end in zip(group_runs(runs), "ab", strict=True):
        assert label.startswith("data_agent, train_loader.dataset.local …")
        assert label.endswith(f"long/{end}") and len(label) < 70


@pytest.mark.parametrize(
    "others",
    [
        [f"optimizer.{name}=1" for name in ("lr", "eps", "weight_decay", "amsgrad")],
        [f"train_loader.dataset.local=other/{'long/' * 20}"],
    ],
    ids=["many differences", "no difference in what is shown"],
)
def test_runs_that_cannot_be_told_apart_by_a_few_words_are_named(others: list[str]) -> None:
    first = f"train_loader.dataset.local=some/{'long/' * 20}"
    runs = [
        run_of(first, "run_dir=runs/new/third"),
        run_of(first, "run_dir=runs/new/fourth", "seed=1"),
        run_of(*others, "run_dir=runs/digits"),
    ]
    assert sizes(runs) == {"data_agent, run new/third": 2, "data_agent, run digits": 1}


def test_runs_with_and_without_a_recipe_are_not_averaged() -> None:
    runs = [run_of("run_dir=runs/a"), make_run("data_agent", [], path="runs/b", ratio=0.5)]
    assert sizes(runs) == {"data_agent, run a": 1, "data_agent, run b": 1}
