# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The demo: one recipe, four ways to choose what to train on."""

from __future__ import annotations

from pathlib import Path

import click

from composer_dataagent.recipes.config import Recipe, load_recipe
from composer_dataagent.recipes.digits import prepare_digits
from composer_dataagent.recipes.run import is_finished, train

SELECTORS = ("full", "random", "infobatch", "data_agent")
_PACKAGE = Path(__file__).parents[1]
# A wheel has the recipes inside the package, a source tree beside it.
_YAMLS = _PACKAGE / "yamls" if (_PACKAGE / "yamls").exists() else _PACKAGE.parent / "yamls"
RECIPE = _YAMLS / "digits.yaml"


def run_demo(folder: Path, data: Path, seeds: int, fresh: bool) -> list[Path]:
    """Train full, random, InfoBatch and DataAgent on digits; finished runs are used again.

    Args:
        folder (Path): Gets a folder for each run.
        data (Path): Where the shards are, or go.
        seeds (int): Runs of each selector.
        fresh (bool): Train finished runs again.

    Returns:
        list[Path]: The run folders.

    Raises:
        RecipeError: A run cannot start, or the data cannot be written.
    """
    prepare_digits(data)
    recipes = [
        _recipe(selector, seed, folder, data, fresh)
        for seed in range(seeds)
        for selector in SELECTORS
    ]
    for i, recipe in enumerate(recipes, 1):
        about = f"[{i}/{len(recipes)}] {recipe.run_name}"
        if not fresh and is_finished(recipe):
            click.echo(f"{about}: finished already")
        else:
            click.echo(about)
            train(recipe)
    return [Path(recipe.run_dir) for recipe in recipes]


def _recipe(selector: str, seed: int, folder: Path, data: Path, fresh: bool) -> Recipe:
    name = f"{selector}-seed{seed}"
    recipe = load_recipe(RECIPE).model_dump()
    recipe |= {"run_name": name, "run_dir": str(folder / name), "seed": seed, "overwrite": fresh}
    recipe["train_loader"]["dataset"]["local"] = str(data / "train")
    recipe["eval_loader"]["dataset"]["local"] = str(data / "eval")
    recipe["algorithms"]["data_agent"]["selector"] = selector
    return Recipe.model_validate(recipe)
