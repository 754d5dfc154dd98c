# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Models that a recipe can name: small ones, torchvision's, and language models."""

from __future__ import annotations

import torchvision

from composer_dataagent.recipes.language_models import (
    bert_classifier,
    gpt2,
    pretrained_causal_lm,
    pretrained_classifier,
)
from composer_dataagent.recipes.lora import lora_of
from composer_dataagent.recipes.pretrained_images import pretrained_image_classifier
from composer_dataagent.recipes.registry import Registry
from composer_dataagent.recipes.small_models import (
    resnet8,
    small_cnn,
    tiny_text_transformer,
    tiny_vit,
)
from composer_dataagent.recipes.torchvision_models import (
    classifier,
    segmentation,
    small_image_resnet,
)

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
        "pretrained_image_classifier": pretrained_image_classifier,
        "lora": lora_of({"gpt2": gpt2}),
        **{
            name: classifier(name)
            for name in torchvision.models.list_models(module=torchvision.models)
        },
        **{f"cifar_{name}": small_image_resnet(name) for name in ("resnet18", "resnet34")},
        **{
            name: segmentation(name)
            for name in torchvision.models.list_models(module=torchvision.models.segmentation)
        },
    },
    # Weights would be downloaded at run time; Composer's load_path starts from a checkpoint. A
    # second head's outputs would have no place among the logits.
    implied=("weights", "weights_backbone", "aux_loss", "aux_logits"),
)
