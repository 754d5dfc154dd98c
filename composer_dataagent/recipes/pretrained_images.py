# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Hugging Face's image classifiers, with weights from this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from composer.models import ComposerClassifier
from torch import Tensor, nn

from composer_dataagent.recipes.pretrained import load_classifier

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def pretrained_image_classifier(pretrained: str, num_classes: int) -> ComposerClassifier:
    """An image model from this machine with a classifier, random if it has none of so many classes.

    Images are to be normalised as it was trained: ``mean`` and ``std`` of the data set, of which
    the model's ``preprocessor_config.json`` tells (``image_mean``, ``image_std``).

    Args:
        pretrained (str): A folder that ``save_pretrained`` wrote, of a ViT, ConvNeXt, Swin, ResNet
            or any other that transformers' ``AutoModelForImageClassification`` knows.
        num_classes (int): Number of classes ``C``.

    Returns:
        ComposerClassifier: Images ``[B, 3, H, W]`` to logits ``[B, C]``; all weights are trained.

    Raises:
        ValueError: There is no such model.
    """
    model = load_classifier(
        pretrained,
        "ImageClassification",
        num_classes,
        ignore_mismatched_sizes=True,  # a classifier of other classes
    )
    return ComposerClassifier(_OnlyLogits(model), num_classes)


class _OnlyLogits(nn.Module):
    """Hugging Face's models answer with a mapping, and Composer's algorithms look for a tensor."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(pixel_values=images).logits
