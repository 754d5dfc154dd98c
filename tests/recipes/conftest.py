# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that build and run recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from composer_dataagent.recipes import Recipe, load_recipe
from composer_dataagent.recipes.demo import RECIPE
from composer_dataagent.recipes.digits import prepare_digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("data") / "digits")


@pytest.fixture
def recipe(digits: Path, tmp_path: Path) -> Callable[..., Recipe]:
    """The shipped recipe on the test's data, in the test's folder, with overrides."""

    def make(*overrides: str) -> Recipe:
        where = [
            f"run_dir={tmp_path / 'run'}",
            f"train_loader.dataset.local={digits / 'train'}",
            f"eval_loader.dataset.local={digits / 'eval'}",
            "trainer.progress_bar=false",
            "train_loader.batch_size=128",
        ]
        return load_recipe(RECIPE, [*where, *overrides])

    return make
