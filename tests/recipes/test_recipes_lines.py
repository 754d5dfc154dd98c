# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A run that is not watched in a terminal says how far it is in lines."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from composer_dataagent.recipes import Recipe, train

MakeRecipe = Callable[..., Recipe]
EPOCHS = r"""epoch 1 of 2 done, 12 batches, loss [\d.]+
evaluated: CrossEntropy [\d.]+, MulticlassAccuracy [\d.]+
epoch 2 of 2 done, 18 batches, loss [\d.]+
evaluated: CrossEntropy [\d.]+, MulticlassAccuracy [\d.]+
"""


def test_a_line_for_each_epoch_and_evaluation(
    recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    train(recipe("~trainer.progress_bar", "trainer.max_duration=2ep"))
    said = capsys.readouterr().err
    assert re.fullmatch(EPOCHS, said), said


def test_a_recipe_that_wants_silence_has_it(
    recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    train(recipe("trainer.progress_bar=false", "trainer.max_duration=1ep"))
    assert not capsys.readouterr().err
