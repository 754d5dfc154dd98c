# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What can be asked of a Hugging Face model, whatever it is wrapped in."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def huggingface_model(model: nn.Module) -> PreTrainedModel | None:
    """The outermost Hugging Face model, inside of Composer's, PEFT's and torch's wrappers.

    Args:
        model (nn.Module): Whatever the trainer has.

    Returns:
        PreTrainedModel | None: None if there is none.
    """
    # Imported by whoever made such a model; else there is none, and seconds are saved.
    transformers: Any = sys.modules.get("transformers.modeling_utils")
    if transformers is None:
        return None
    known = transformers.PreTrainedModel
    found: Any = next((m for m in model.modules() if isinstance(m, known)), None)
    return found


def has_decoder_of_its_own(model: nn.Module) -> bool:
    """Whether labels are of other tokens than the inputs are: an encoder and a decoder."""
    inner = huggingface_model(model)
    return inner is not None and bool(getattr(inner.config, "is_encoder_decoder", False))


def vocabulary_layer(model: nn.Module) -> nn.Module | None:
    """The layer of a language model that gives its logits; None for all other models.

    Where it shares not just its weights with the input embedding but is the same module (MPT), that
    one.
    """
    inner = huggingface_model(model)
    return None if inner is None else inner.get_output_embeddings()


def base_layer(module: nn.Module) -> nn.Module:
    """The layer that PEFT put an adapter around or made a copy of; any other module as it is."""
    inside: Any = module
    tuners: Any = sys.modules.get("peft.tuners.tuners_utils")
    others: Any = sys.modules.get("peft.utils.other")
    if others is not None and isinstance(inside, others.ModulesToSaveWrapper):
        inside = inside.original_module
    if tuners is not None and isinstance(inside, tuners.BaseTunerLayer):
        inside = inside.get_base_layer()
    return inside
