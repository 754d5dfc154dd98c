# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Classifiers that train in about a minute on one CPU core, one of each family."""

from __future__ import annotations

import torch
from composer.models import ComposerClassifier
from torch import Tensor, nn


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


def resnet8(num_classes: int, in_channels: int = 1, width: int = 16) -> ComposerClassifier:
    """The smallest ResNet for CIFAR (He et al., 2016, section 4.2): three stages of one block.

    Args:
        num_classes (int): Number of classes ``C``.
        in_channels (int): Channels of the images. Default: ``1``.
        width (int): Channels of the first stage; each stage doubles them and halves the image, so
            the feature embedding has 4 times as many numbers. Default: ``16``.

    Returns:
        ComposerClassifier: Images ``[B, in_channels, H, W]``, of any size, to logits ``[B, C]``.
    """
    network = nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        _BasicBlock(width, width, stride=1),
        _BasicBlock(width, 2 * width, stride=2),
        _BasicBlock(2 * width, 4 * width, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, num_classes),
    )
    return ComposerClassifier(network, num_classes)


def tiny_vit(
    num_classes: int,
    image_size: int = 28,
    patch_size: int = 7,
    in_channels: int = 1,
    dim: int = 64,
    depth: int = 3,
    heads: int = 4,
) -> ComposerClassifier:
    """A vision transformer (Dosovitskiy et al., 2021) of a few thin layers, with mean pooling.

    Args:
        num_classes (int): Number of classes ``C``.
        image_size (int): Height and width of the images. Default: ``28``.
        patch_size (int): Height and width of a patch. Default: ``7``.
        in_channels (int): Channels of the images. Default: ``1``.
        dim (int): Width, also of the feature embedding. Default: ``64``.
        depth (int): Layers. Default: ``3``.
        heads (int): Attention heads of a layer. Default: ``4``.

    Returns:
        ComposerClassifier: Images ``[B, in_channels, image_size, image_size]`` to logits
        ``[B, C]``.

    Raises:
        ValueError: Patches do not fill the image, or heads do not fill the width.
    """
    if image_size % patch_size:
        raise ValueError(f"patch_size={patch_size} does not divide image_size={image_size}")
    network = nn.Sequential(
        nn.Conv2d(in_channels, dim, patch_size, stride=patch_size),
        nn.Flatten(2),
        _Transpose(),
        _Positions((image_size // patch_size) ** 2, dim),
        *_layers(dim, depth, heads),
        _Mean(),
        nn.Linear(dim, num_classes),
    )
    return ComposerClassifier(network, num_classes)


def tiny_text_transformer(
    num_classes: int,
    vocabulary: int = 8192,
    length: int = 32,
    dim: int = 64,
    depth: int = 2,
    heads: int = 4,
    dropout: float = 0.5,
) -> ComposerClassifier:
    """A transformer encoder of a few thin layers over the ids of words, with mean pooling.

    Padding is a word like any other, so that an empty text is fine, too.

    Args:
        num_classes (int): Number of classes ``C``.
        vocabulary (int): Ids are below this. Default: ``8192``.
        length (int): Words of a text. Default: ``32``.
        dim (int): Width, also of the feature embedding. Default: ``64``.
        depth (int): Layers. Default: ``2``.
        heads (int): Attention heads of a layer. Default: ``4``.
        dropout (float): Probability with which a whole word is left out in training. Nothing else
            is dropped: most of the weights are the words', which a few thousand texts are soon
            learned by heart with. Default: ``0.5``.

    Returns:
        ComposerClassifier: Ids int64 ``[B, length]`` to logits ``[B, C]``.

    Raises:
        ValueError: Heads do not fill the width.
    """
    words = nn.Embedding(vocabulary, dim)
    nn.init.normal_(words.weight, std=0.02)
    network = nn.Sequential(
        words,
        _Positions(length, dim),
        nn.Dropout1d(dropout),
        *_layers(dim, depth, heads),
        _Mean(),
        nn.Linear(dim, num_classes),
    )
    return ComposerClassifier(network, num_classes)


class _BasicBlock(nn.Module):
    """Two convolutions beside a shortcut, a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


class _Positions(nn.Module):
    """Adds a learned vector to each position of ``[B, length, dim]``."""

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(length, dim))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != len(self.weight):
            raise ValueError(
                f"The model is for {len(self.weight)} positions, but its input has {x.shape[1]}: "
                "give the model the data's length of texts or size of images"
            )
        return x + self.weight


class _Transpose(nn.Module):
    """``[B, dim, length]`` to ``[B, length, dim]``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class _Mean(nn.Module):
    """``[B, length, dim]`` to ``[B, dim]``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=1)


def _layers(dim: int, depth: int, heads: int) -> list[nn.Module]:
    """Pre-norm encoder layers (hidden width twice ``dim``), and the norm that ends them."""
    if dim % heads:
        raise ValueError(f"heads={heads} does not divide dim={dim}")
    layers: list[nn.Module] = [
        nn.TransformerEncoderLayer(
            dim, heads, 2 * dim, 0.0, "gelu", batch_first=True, norm_first=True
        )
        for _ in range(depth)
    ]
    return [*layers, nn.LayerNorm(dim)]
