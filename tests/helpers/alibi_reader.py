# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A text classifier that Composer's Alibi is told how to change.

What Alibi brings for BERT and GPT-2 fits transformers up to 4.53. Annotations are not postponed
here, for the registry compares them with classes.
"""

from typing import Any

import torch
from composer.algorithms.alibi.attention_surgery_functions.utils import (
    policy_registry,
    register_alibi,
)
from composer.models import ComposerModel
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """One head of attention, which takes the biases of ALiBi where it has any."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.projection(x).chunk(3, dim=-1)
        scores = query @ key.transpose(1, 2)
        biases = getattr(self, "alibi", None)
        if biases is not None:
            scores = scores + biases[0, :, : x.shape[1], : x.shape[1]]
        return scores.softmax(-1) @ value


@policy_registry.register(Attention)
def add_alibi(
    module: torch.nn.Module, module_index: int, max_sequence_length: int
) -> torch.nn.Module:
    """The surgery."""
    attention = Attention(16)
    attention.load_state_dict(module.state_dict())
    return register_alibi(attention, 1, max_token_length=max_sequence_length, causal=False)


class Reader(ComposerModel):
    """Batches are mappings with ``input_ids`` and ``labels``, outputs are logits."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embedding = nn.Embedding(50, 16)
        self.attention = Attention(16)
        self.head = nn.Linear(16, num_classes)

    def forward(self, batch: Any) -> Tensor:
        return self.head(self.attention(self.embedding(batch["input_ids"])).mean(1))

    def loss(self, outputs: Any, batch: Any, *args: Any, **kwargs: Any) -> Tensor:
        return F.cross_entropy(outputs, batch["labels"])
