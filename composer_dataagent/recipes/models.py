# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Models that a recipe can name: a small CNN, and torchvision's classifiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torchvision
from composer.models import ComposerClassifier
from torch import nn

from composer_dataagent.recipes.registry import Registry


def small_cnn(num_classes: int, in_channels: int = 1, width: int = 16) -> ComposerClassifier:
    """Two convolutions and one hidden layer, for images from 8x8: trains in seconds on a CPU.

    Args:
        num_classes (int): Number of classes ``C``.
        in_channels (int): Channels of the images. Default: ``1``.
        width (int): Channels of the first convolution; the feature embedding has 4 times as many
            numbers. Default: ``16``.

    Returns:
        ComposerClassifier: Images ``[B, in_channels, H, W]`` to logits ``[B, C]``.
    """

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    network = nn.Sequential(
        *block(in_channels, width),
        *block(width, 2 * width),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(2 * width * 16, 4 * width),
        nn.ReLU(inplace=True),
        nn.Linear(4 * width, num_classes),
    )
    return ComposerClassifier(network, num_classes)


def _torchvision(name: str) -> Callable[..., ComposerClassifier]:
    def build(num_classes: int, **arguments: Any) -> ComposerClassifier:
        network = torchvision.models.get_model(name, num_classes=num_classes, **arguments)
        return ComposerClassifier(network, num_classes)

    return build


MODELS = Registry(
    "model",
    {
        "small_cnn": small_cnn,
        **{
            name: _torchvision(name)
            for name in torchvision.models.list_models(module=torchvision.models)
        },
    },
    # Weights would be downloaded at run time; Composer's load_path starts from a checkpoint.
    implied=("weights", "weights_backbone"),
)
