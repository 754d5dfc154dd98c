# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""From a YAML recipe to a training run."""

from __future__ import annotations

from composer_dataagent.recipes.build import build_trainer
from composer_dataagent.recipes.config import LoaderConfig, Recipe, load_recipe
from composer_dataagent.recipes.errors import RecipeError
from composer_dataagent.recipes.run import is_finished, train

__all__ = [
    "LoaderConfig",
    "Recipe",
    "RecipeError",
    "build_trainer",
    "is_finished",
    "load_recipe",
    "train",
]
