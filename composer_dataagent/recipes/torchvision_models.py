# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Torchvision's models with random weights: classifiers, ResNets for small images, segmentation."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from composer.metrics import CrossEntropy, MIoU
from composer.models import ComposerClassifier
from torch import Tensor, nn
from torchmetrics import MetricCollection

from composer_dataagent.recipes.labels import IGNORED

# These answer in training with a tuple, for auxiliary heads whose place others gave up long ago.
_WITHOUT_AUXILIARIES: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def classifier(name: str) -> Callable[..., ComposerClassifier]:
    """A function that makes a classifier of torchvision's.

    Args:
        name (str): Torchvision's own.

    Returns:
        Callable[..., ComposerClassifier]: Of the number of classes, and of what torchvision takes.
    """
    fixed = _WITHOUT_AUXILIARIES.get(name, {})

    def build(num_classes: int, **arguments: Any) -> ComposerClassifier:
        network = _untrained(name, num_classes, {**fixed, **arguments})
        return ComposerClassifier(network, num_classes)

    return build


def small_image_resnet(name: str) -> Callable[..., ComposerClassifier]:
    """A function that makes a ResNet of torchvision's with the first layer of one for CIFAR.

    That is a 3x3 convolution that keeps an image's height and width, and no pooling behind it: the
    first layers of the original would leave 8x8 pixels of 32x32.

    Args:
        name (str): Torchvision's own, of a ResNet.

    Returns:
        Callable[..., ComposerClassifier]: Of the number of classes, of ``in_channels`` (default:
        ``3``), and of what torchvision takes.
    """

    def build(num_classes: int, in_channels: int = 3, **arguments: Any) -> ComposerClassifier:
        network = _untrained(name, num_classes, arguments)
        width = network.conv1.out_channels
        network.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
        return ComposerClassifier(network, num_classes)

    return build


def segmentation(name: str) -> Callable[..., ComposerClassifier]:
    """A function that makes a model of torchvision's that gives each pixel a class.

    Args:
        name (str): Torchvision's own.

    Returns:
        Callable[..., ComposerClassifier]: Of the number of classes and of ``backbone_file``
        (weights of the backbone: what ``torch.save`` made of a classifier's ``state_dict()``, as
        torchvision offers for download; its last layer is left out. Default: random weights). The
        model takes images ``[B, 3, H, W]`` to logits ``[B, C, H, W]``.
    """

    # No other arguments: torchvision takes any here, and leaves them unread.
    def build(num_classes: int, backbone_file: str | None = None) -> ComposerClassifier:
        # Else torchvision downloads a backbone.
        network: Any = torchvision.models.get_model(
            name, num_classes=num_classes, weights_backbone=None
        )
        if backbone_file is not None:
            _load_backbone(network.backbone, backbone_file)
        return ComposerClassifier(
            _OnlyOut(network),
            num_classes,
            train_metrics=MIoU(num_classes, ignore_index=IGNORED),
            val_metrics=MetricCollection(
                [CrossEntropy(ignore_index=IGNORED), MIoU(num_classes, ignore_index=IGNORED)]
            ),
            loss_fn=_pixel_loss,
        )

    return build


def _untrained(name: str, num_classes: int, arguments: Mapping[str, Any]) -> Any:
    if "pretrained" in arguments:  # what torchvision called weights before, and still takes
        raise ValueError(
            "argument 'pretrained' is not known: weights would be downloaded. trainer.load_path "
            "starts from a checkpoint"
        )
    return torchvision.models.get_model(name, num_classes=num_classes, **arguments)


class _OnlyOut(nn.Module):
    """Torchvision's segmentation models answer with a mapping, which metrics do not take."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)["out"]


def _pixel_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy of the pixels that have a label, 0 where none has (torch says NaN)."""
    total = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    return total / (targets != IGNORED).sum().clamp(min=1)


def _load_backbone(backbone: nn.Module, path: str) -> None:
    try:
        weights: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"backbone_file={path!r} cannot be read: {error}") from error
    wanted = backbone.state_dict().keys()
    if isinstance(weights, dict):  # a MobileNet's backbone is its `features`
        weights = {str(name).removeprefix("features."): each for name, each in weights.items()}
    lacking = sorted(wanted - weights.keys()) if isinstance(weights, dict) else sorted(wanted)
    if lacking:
        raise ValueError(
            f"backbone_file={path!r} holds no weights of this backbone: it lacks {lacking[0]} and "
            f"{len(lacking) - 1} more of {len(wanted)}"
        )
    backbone.load_state_dict({name: weights[name] for name in wanted})
