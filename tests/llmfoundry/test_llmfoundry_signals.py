# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is read of llm-foundry's models is what they are trained on, sequence by sequence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from llmfoundry_runs import (
    MPT,
    VOCABULARY,
    Inputs,
    build_loader,
    build_model,
    gpt2,
    prompts_loader,
    text_loader,
)
from torch import Tensor
from torch.nn import functional

from composer_dataagent.signals import BatchReader, FeatureHook, detect_signals, find_head

# Of llm-foundry and what it imports, while it makes models and batches.
pytestmark = pytest.mark.filterwarnings("ignore")

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "untied": {"tie_word_embeddings": False},
    "alibi": {"attn_config": {"attn_impl": "torch", "alibi": True}},
    "scaled": {"logit_scale": "inv_sqrt_d_model"},
    "capped": {"final_logit_softcapping": 3.0},
}


def model_of(name: str, inputs: Inputs) -> Any:
    torch.manual_seed(3)
    model = build_model(inputs, gpt2(inputs) if name == "gpt2" else MPT | VARIANTS[name])
    with torch.no_grad():  # far from where it begins: losses differ
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return model.eval()


def batch_of(kind: str, inputs: Inputs, folder: Path) -> dict[str, Any]:
    settings = text_loader(inputs) if kind == "text" else prompts_loader(inputs, folder)
    padding = "left" if kind == "prompts, left" else "right"
    loader = build_loader(inputs, settings, num_workers=0, padding_side=padding)
    batch = next(iter(loader))
    if kind != "text":
        assert (batch["labels"] == -100).any(dim=1).all(), "prompts and padding do not count"
        assert (batch["attention_mask"][:, 0 if padding == "left" else -1] == 0).any()
    return batch


def reference(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of each sequence: mean loss and normalised entropy over the tokens that are predicted."""
    losses, entropies = [], []
    for row, targets in zip(logits.double(), labels, strict=True):
        counts = targets[1:] != -100
        log_p = row[:-1][counts].log_softmax(dim=-1)
        losses.append(functional.nll_loss(log_p, targets[1:][counts]))
        entropies.append(-(log_p.exp() * log_p).sum(dim=-1).mean() / math.log(VOCABULARY))
    return torch.stack(losses), torch.stack(entropies)


@pytest.mark.parametrize("kind", ["text", "prompts", "prompts, left"])
@pytest.mark.parametrize("name", [*VARIANTS, "gpt2"])
def test_losses_are_those_of_the_model(
    inputs: Inputs, tmp_path: Path, name: str, kind: str
) -> None:
    model, batch = model_of(name, inputs), batch_of(kind, inputs, tmp_path)
    with torch.no_grad():
        outputs = model(batch)
        own = model.loss(outputs, batch)
    signals = detect_signals(model)(outputs, batch)
    loss, entropy = reference(outputs.logits, batch["labels"])
    assert loss.max() - loss.min() > 0.1
    torch.testing.assert_close(signals.loss.double(), loss, rtol=0, atol=1e-5)
    torch.testing.assert_close(signals.entropy.double(), entropy, rtol=0, atol=1e-5)
    # Of the whole batch, the mean over tokens is what the model is trained on.
    tokens = (batch["labels"][:, 1:] != -100).sum(dim=1)
    mean = (signals.loss * tokens).sum() / tokens.sum()
    torch.testing.assert_close(mean, own, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "untied", "gpt2"])
def test_features_are_those_that_logits_are_made_of(
    inputs: Inputs, tmp_path: Path, name: str
) -> None:
    model, batch = model_of(name, inputs), batch_of("prompts", inputs, tmp_path)
    _, head = find_head(model)
    reader = BatchReader(detect_signals(model), FeatureHook(head))
    with torch.no_grad():
        reader.before_forward()
        reader.after_forward(model(batch), batch)
        inner = model.model.transformer
        hidden = inner(batch["input_ids"], attention_mask=batch["attention_mask"])
    read = reader.end_pass(len(batch["input_ids"]))
    assert read is not None and read[1] is not None
    for row, mask in enumerate(batch["attention_mask"] > 0):
        expected = hidden.last_hidden_state[row][mask].mean(dim=0)
        torch.testing.assert_close(read[1][row], expected, rtol=1e-5, atol=1e-5)
