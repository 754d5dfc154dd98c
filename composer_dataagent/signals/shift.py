# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a model's logits at a token predict this token's label or the next one's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from composer_dataagent.signals.huggingface import huggingface_model
from composer_dataagent.signals.tokens import counted, token_signals

# How transformers, and those who write models for it, call classes that predict the next token.
NEXT_TOKEN = ("ForCausalLM", "LMHeadModel")
# Likewise those that predict the label of each token (of a decoder, labels are shifted inputs).
THIS_TOKEN = ("ForMaskedLM", "ForTokenClassification")
DECODED = ("ForConditionalGeneration",)


def is_shifted(
    model: nn.Module, outputs: Any, logits: Tensor, labels: Tensor
) -> tuple[bool | None, bool]:
    """Whether labels are those of the next token; reads the model's own loss back, if it gives one.

    The class name alone does not tell: Bart's causal model, for one, does not shift. So where the
    outputs have a ``loss``, the reading is right whose mean is that loss. The name decides where
    there is none (llm-foundry's models), or where it has other terms, too (a mixture of experts').

    Args:
        model (nn.Module): Whatever the trainer has.
        outputs (Any): Of its forward pass.
        logits (Tensor): ``[B, T, V]`` floating point.
        labels (Tensor): ``[B, T]`` integer.

    Returns:
        tuple[bool | None, bool]: The answer, None if neither tells; and whether it holds for other
        batches, too: of one without any label that counts, or with NaN, the loss says nothing.
    """
    named, own = _named(model), _loss_of(outputs)
    if own is None:
        return named, True
    means = {shift: _mean_loss(logits, labels, shift) for shift in (False, True)}
    if not all(map(math.isfinite, (float(own), *means.values()))):
        return named, False
    rounding = (1e-4 if own.element_size() >= 4 else 1e-2) * abs(float(own))
    near = [shift for shift, mean in means.items() if abs(mean - float(own)) <= rounding]
    if len(near) == 1:
        return near[0], True
    return named, not near  # of a young model, both may be near


def _mean_loss(logits: Tensor, labels: Tensor, shift: bool) -> float:
    losses = token_signals(logits, labels, shift=shift).loss
    tokens = counted(labels[:, 1:] if shift else labels, logits.shape[2]).sum(dim=1)
    return float((losses * tokens).sum() / tokens.sum())


def _named(model: nn.Module) -> bool | None:
    inner = huggingface_model(model)
    if inner is None:
        return None
    name, decodes = type(inner).__name__, bool(inner.config.is_encoder_decoder)
    if name.endswith(THIS_TOKEN) or (decodes and name.endswith((*DECODED, *NEXT_TOKEN))):
        return False
    return True if name.endswith(NEXT_TOKEN) else None


def _loss_of(outputs: Any) -> Tensor | None:
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    return loss if isinstance(loss, Tensor) and loss.numel() == 1 else None
