# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Language models that a recipe can name: Hugging Face's, untrained or from this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from composer.metrics.nlp import LanguageCrossEntropy, LanguagePerplexity
from composer.models import HuggingFaceModel
from torchmetrics.classification import MulticlassAccuracy

from composer_dataagent.recipes.errors import at_least
from composer_dataagent.recipes.pretrained import load_classifier, load_pretrained

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Recipes read tokens, so that no model of theirs has a tokenizer: no need to say so of each.
logging.getLogger("composer.models.huggingface").addFilter(
    lambda record: "tokenizer was not provided" not in record.getMessage()
)


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
    return causal_lm(GPT2LMHeadModel(config))


def bert_classifier(
    num_classes: int,
    vocab_size: int = 30522,
    hidden_size: int = 768,
    num_hidden_layers: int = 12,
    num_attention_heads: int = 12,
    intermediate_size: int = 3072,
    max_position_embeddings: int = 512,
    dropout: float = 0.1,
) -> HuggingFaceModel:
    """BERT's architecture with random weights and a classifier of whole texts.

    Args:
        num_classes (int): Number of classes ``C``.
        vocab_size (int): Token ids are below this: 257 for bytes. Default: ``30522``.
        hidden_size (int): Width, also of the feature embedding. Default: ``768``.
        num_hidden_layers (int): Layers. Default: ``12``.
        num_attention_heads (int): Attention heads of a layer. Default: ``12``.
        intermediate_size (int): Hidden width of a layer. Default: ``3072``.
        max_position_embeddings (int): Tokens of a text, at most. Default: ``512``.
        dropout (float): Of embeddings, attention, layers and classifier. Default: ``0.1``.

    Returns:
        HuggingFaceModel: From ``{"input_ids", "attention_mask", "labels"}``, int64 ``[B, T]``,
        ``[B, T]`` and ``[B]``, evaluated by accuracy.

    Raises:
        ValueError: Heads do not fill the width, or a size is below 1.
    """
    from transformers import BertConfig, BertForSequenceClassification  # seconds

    at_least(2, num_classes=num_classes)
    at_least(1, vocab_size=vocab_size, hidden_size=hidden_size)
    at_least(1, num_hidden_layers=num_hidden_layers, num_attention_heads=num_attention_heads)
    at_least(1, intermediate_size=intermediate_size)
    at_least(1, max_position_embeddings=max_position_embeddings)
    if hidden_size % num_attention_heads:
        raise ValueError(
            f"hidden_size={hidden_size} must be a multiple of "
            f"num_attention_heads={num_attention_heads}"
        )
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=max_position_embeddings,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        num_labels=num_classes,
        problem_type="single_label_classification",
    )
    return _classifier(BertForSequenceClassification(config), num_classes)


def pretrained_causal_lm(pretrained: str) -> HuggingFaceModel:
    """A causal language model from this machine, all of which is trained on.

    Args:
        pretrained (str): A folder that ``save_pretrained`` wrote, a checkpoint, or the ``run_dir``
            of a recipe.

    Returns:
        HuggingFaceModel: As :func:`gpt2` gives it.

    Raises:
        ValueError: There is no such model.
    """
    return causal_lm(load_pretrained(pretrained, "CausalLM"))


def pretrained_classifier(pretrained: str, num_classes: int) -> HuggingFaceModel:
    """A model from this machine with a classifier of whole texts, random if it has none.

    Args:
        pretrained (str): A folder that ``save_pretrained`` wrote, a checkpoint, or the ``run_dir``
            of a recipe.
        num_classes (int): Number of classes ``C``.

    Returns:
        HuggingFaceModel: As :func:`bert_classifier` gives it.

    Raises:
        ValueError: There is no such model.
    """
    model = load_classifier(pretrained, "SequenceClassification", num_classes)
    return _classifier(model, num_classes)


def causal_lm(
    model: PreTrainedModel,
    wrapper: Callable[..., HuggingFaceModel] = HuggingFaceModel,
    **arguments: Any,
) -> HuggingFaceModel:
    """A causal language model as Composer takes it, evaluated by cross entropy and perplexity.

    Args:
        model (PreTrainedModel): Of Hugging Face.
        wrapper (Callable[..., HuggingFaceModel]): Takes the model and the arguments. Default:
            Composer's.
        **arguments (Any): More of the wrapper's.
    """
    if getattr(model, "loss_type", None) is None:  # of GPT-2, for one
        model.loss_type = "ForCausalLM"  # which transformers would take anyway, with a warning
    return wrapper(
        model,
        metrics=[LanguageCrossEntropy(), LanguagePerplexity()],
        use_logits=True,
        shift_labels=True,
        **arguments,
    )


def _classifier(model: PreTrainedModel, num_classes: int) -> HuggingFaceModel:
    accuracy = MulticlassAccuracy(num_classes, average="micro")
    return HuggingFaceModel(model, metrics=[accuracy], use_logits=True, shift_labels=False)
