# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Models that a recipe can name: small ones, torchvision's classifiers, and language models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torchvision
from composer.models import ComposerClassifier

from composer_dataagent.recipes.language_models import (
    bert_classifier,
    gpt2,
    pretrained_causal_lm,
    pretrained_classifier,
)
from composer_dataagent.recipes.lora import lora_of
from composer_dataagent.recipes.registry import Registry
from composer_dataagent.recipes.small_models import (
    resnet8,
    small_cnn,
    tiny_text_transformer,
    tiny_vit,
)


def _torchvision(name: str) -> Callable[..., ComposerClassifier]:
    def build(num_classes: int, **arguments: Any) -> ComposerClassifier:
        network = torchvision.models.get_model(name, num_classes=num_classes, **arguments)
        return ComposerClassifier(network, num_classes)

    return build


MODELS = Registry(
    "model",
    {
        "small_cnn": small_cnn,
        "resnet8": resnet8,
        "tiny_vit": tiny_vit,
        "tiny_text_transformer": tiny_text_transformer,
        "gpt2": gpt2,
        "bert_classifier": bert_classifier,
        "pretrained_causal_lm": pretrained_causal_lm,
        "pretrained_classifier": pretrained_classifier,
        "lora": lora_of({"gpt2": gpt2}),
        **{
            name: _torchvision(name)
            for name in torchvision.models.list_models(module=torchvision.models)
        },
    },
    # Weights would be downloaded at run time; Composer's load_path starts from a checkpoint.
    implied=("weights", "weights_backbone"),
)
