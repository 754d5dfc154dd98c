# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Real language models of every kind, tiny and with random weights, and batches for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peft
import torch
import transformers as hf
from composer.models import HuggingFaceModel
from torch import Tensor

VOCABULARY, WIDTH = 61, 16
_BERT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
_BART: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}


@dataclass(frozen=True)
class LanguageModel:
    """One kind.

    Attributes:
        build: Makes the model.
        shift: Whether its labels are those of the next token, as its source says.
        head: Dotted path of the layer that gives logits, in the model.
        classes: What is predicted of a token.
    """

    build: Callable[[], hf.PreTrainedModel | peft.PeftModel]
    shift: bool
    head: str
    classes: int = VOCABULARY


def gpt2(vocabulary: int = VOCABULARY) -> hf.GPT2LMHeadModel:
    config = hf.GPT2Config(
        vocab_size=vocabulary,
        n_embd=WIDTH,
        n_layer=1,
        n_head=2,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    return hf.GPT2LMHeadModel(config)


def _llama() -> hf.LlamaForCausalLM:
    return hf.LlamaForCausalLM(
        hf.LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    )


def _t5() -> hf.T5ForConditionalGeneration:
    return hf.T5ForConditionalGeneration(
        hf.T5Config(
            vocab_size=VOCABULARY,
            d_model=WIDTH,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            decoder_start_token_id=0,
        )
    )


def _lora(build: Callable[[], hf.PreTrainedModel], **where: Any) -> peft.PeftModel:
    """With additions that add something: PEFT begins with zeros."""
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, init_lora_weights=False, **where)
    model = peft.get_peft_model(build(), config)
    assert isinstance(model, peft.PeftModel)
    return model


LANGUAGE_MODELS: dict[str, LanguageModel] = {
    "gpt2": LanguageModel(gpt2, True, "lm_head"),
    "llama": LanguageModel(_llama, True, "lm_head"),
    "causal bert": LanguageModel(
        lambda: hf.BertLMHeadModel(hf.BertConfig(**_BERT, is_decoder=True)),
        True,
        "cls.predictions.decoder",
    ),
    # Its name says one thing, its loss another.
    "causal bart": LanguageModel(
        lambda: hf.BartForCausalLM(hf.BartConfig(**_BART)), False, "lm_head"
    ),
    "masked bert": LanguageModel(
        lambda: hf.BertForMaskedLM(hf.BertConfig(**_BERT)), False, "cls.predictions.decoder"
    ),
    "t5": LanguageModel(_t5, False, "lm_head"),
    "bart": LanguageModel(
        lambda: hf.BartForConditionalGeneration(hf.BartConfig(**_BART)), False, "lm_head"
    ),
    "lora": LanguageModel(
        lambda: _lora(gpt2, fan_in_fan_out=True), True, "base_model.model.lm_head"
    ),
    "lora of the head": LanguageModel(
        lambda: _lora(_llama, target_modules=["q_proj", "lm_head"]),
        True,
        "base_model.model.lm_head",
    ),
    "token classifier": LanguageModel(
        lambda: hf.BertForTokenClassification(hf.BertConfig(**_BERT, num_labels=5)),
        False,
        "classifier",
        classes=5,
    ),
}


def wrapped(kind: LanguageModel, seed: int = 0) -> HuggingFaceModel:
    """The model as Composer has it; in evaluation mode, without dropout."""
    torch.manual_seed(seed)
    return HuggingFaceModel(kind.build()).eval()


def token_batch(kind: LanguageModel, batch: int = 4, length: int = 12) -> dict[str, Tensor]:
    """Padded sequences, of whose tokens some count."""
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(2, VOCABULARY, (batch, length), generator=random)
    mask = torch.ones_like(ids)
    mask[0, 7:] = 0
    labels = ids % kind.classes
    labels[mask == 0] = -100
    labels[2, :5] = -100  # a prompt
    labels[3, ::2] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
