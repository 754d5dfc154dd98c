# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Real classifiers of ten classes, one of each family, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torchvision
from composer.models import HuggingFaceModel
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

CLASSES = 10


@dataclass(frozen=True)
class Family:
    """How to build a model, where its head is, and what it takes.

    Attributes:
        build: Makes the model.
        head: Dotted path of its head.
        inputs: Makes what its forward pass takes, for a number of samples.
        logits: Takes the logits from what its forward pass gives.
    """

    build: Callable[[], nn.Module]
    head: str
    inputs: Callable[[int], Any]
    logits: Callable[[Any], Tensor] = field(default=lambda outputs: outputs)


def tiny_bert(num_labels: int = CLASSES) -> BertForSequenceClassification:
    """A sequence classifier of two layers."""
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        num_labels=num_labels,
    )
    return BertForSequenceClassification(config)


def images(count: int, size: int = 32) -> Tensor:
    """Random images."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def sentences(count: int) -> dict[str, Tensor]:
    """Random sentences."""
    generator = torch.Generator().manual_seed(count)
    return {
        "input_ids": torch.randint(50, (count, 8), generator=generator),
        "attention_mask": torch.ones(count, 8, dtype=torch.long),
    }


def _vision(name: str, head: str, size: int = 32, **arguments: Any) -> Family:
    build = getattr(torchvision.models, name)
    return Family(
        partial(build, weights=None, num_classes=CLASSES, **arguments),
        head,
        partial(images, size=size),
    )


FAMILIES: dict[str, Family] = {
    "resnet18": _vision("resnet18", "fc"),
    "mobilenet_v3_small": _vision("mobilenet_v3_small", "classifier.3"),
    "vgg11": _vision("vgg11", "classifier.6"),
    "vit_b_16": _vision("vit_b_16", "heads.head", image_size=32),
    "swin_t": _vision("swin_t", "head"),
    "densenet121": _vision("densenet121", "classifier"),
    "convnext_tiny": _vision("convnext_tiny", "classifier.2"),
    "squeezenet1_1": _vision("squeezenet1_1", "classifier.1", size=64),
    "efficientnet_b0": _vision("efficientnet_b0", "classifier.1"),
    "bert": Family(
        lambda: HuggingFaceModel(tiny_bert()),
        "model.classifier",
        sentences,
        lambda outputs: outputs.logits,
    ),
}
