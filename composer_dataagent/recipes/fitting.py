# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a model takes the samples that a recipe's data set gives it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from composer.models import ComposerClassifier
from streaming import StreamingDataset
from torch import nn
from torch.utils.data import default_collate

from composer_dataagent.recipes.errors import RecipeError
from composer_dataagent.recipes.labels import IGNORED

# Labels are looked at of so many samples, from all over the data: class after class they may come.
_LOOKED_AT = 64


@torch.no_grad()
def check_samples(key: str, dataset: Any, model: nn.Module) -> None:
    """Pass two samples through a classifier, and see whether it has the labels of some more.

    Args:
        key (str): Where the dataset stands in the recipe, for messages.
        dataset (Any): A streaming dataset whose data are on this machine.
        model (nn.Module): Any; only classifiers are looked at (of others see
            :func:`~composer_dataagent.recipes.tokens.check_tokens`).

    Raises:
        RecipeError: The samples have another form than the model wants, or labels that are none of
            its classes.
    """
    if not isinstance(model, ComposerClassifier) or model.num_classes is None:
        return
    ids = np.unique(np.linspace(0, dataset.size - 1, _LOOKED_AT, dtype=int)).tolist()
    samples = [_read(key, dataset, i) for i in ids]
    for i, (_, target) in zip(ids, samples, strict=True):
        labels = torch.as_tensor(target)
        labels = labels[labels != IGNORED]
        wrong = labels[(labels < 0) | (labels >= model.num_classes)]
        if len(wrong):
            raise RecipeError(
                f"{key}: sample {i} has the label {int(wrong[0])}, and the model the classes 0 to "
                f"{model.num_classes - 1}: give another model.num_classes, or other labels"
            )
    was_training = model.training
    model.eval()
    try:
        batch = default_collate(samples[:2])
        model.loss(model(batch), batch)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        shapes = " and ".join(f"{list(torch.as_tensor(x).shape)}" for x, _ in samples[:2])
        raise RecipeError(
            f"{key}: the model does not take its samples, which are {shapes}: {error}"
        ) from error
    finally:
        model.train(was_training)


def _read(key: str, dataset: StreamingDataset, i: int) -> Any:
    try:
        return dataset[i]
    except Exception as error:  # whatever a decoder or a transform says
        raise RecipeError(f"{key}: sample {i} cannot be read: {error}") from error
