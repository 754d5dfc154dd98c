# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Language models that a recipe can name: Hugging Face's, from a configuration, untrained."""

from __future__ import annotations

from composer.metrics.nlp import LanguageCrossEntropy, LanguagePerplexity
from composer.models import HuggingFaceModel

from composer_dataagent.recipes.errors import at_least


def gpt2(
    vocab_size: int = 50257,
    n_positions: int = 1024,
    n_layer: int = 12,
    n_head: int = 12,
    n_embd: int = 768,
    dropout: float = 0.1,
) -> HuggingFaceModel:
    """GPT-2's architecture with random weights, evaluated by cross entropy and perplexity.

    Args:
        vocab_size (int): Token ids are below this: 257 for bytes. Default: ``50257``.
        n_positions (int): Tokens of a sequence, at most. Default: ``1024``.
        n_layer (int): Layers. Default: ``12``.
        n_head (int): Attention heads of a layer. Default: ``12``.
        n_embd (int): Width, also of the feature embedding. Default: ``768``.
        dropout (float): Of embeddings, attention and residuals. Default: ``0.1``.

    Returns:
        HuggingFaceModel: From ``{"input_ids", "attention_mask", "labels"}``, each int64 ``[B, T]``.

    Raises:
        ValueError: Heads do not fill the width, or a size is below 1.
    """
    from transformers import GPT2Config, GPT2LMHeadModel  # seconds

    at_least(1, vocab_size=vocab_size, n_positions=n_positions, n_layer=n_layer)
    at_least(1, n_head=n_head, n_embd=n_embd)
    if n_embd % n_head:
        raise ValueError(f"n_embd={n_embd} must be a multiple of n_head={n_head}")
    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=n_positions,
        n_layer=n_layer,
        n_head=n_head,
        n_embd=n_embd,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        resid_pdrop=dropout,
        # GPT-2's own would lie outside a smaller vocabulary.
        bos_token_id=vocab_size - 1,
        eos_token_id=vocab_size - 1,
        use_cache=False,  # of past tokens, which training has no use for
    )
    model = GPT2LMHeadModel(config)
    model.loss_type = "ForCausalLM"  # which transformers would take anyway, with a warning
    return HuggingFaceModel(
        model,
        metrics=[LanguageCrossEntropy(), LanguagePerplexity()],
        use_logits=True,
        shift_labels=True,
    )
