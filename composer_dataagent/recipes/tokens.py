# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Sequences of tokens, as streaming datasets that a recipe can name."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from streaming import Stream, StreamingDataset
from streaming.base.format import get_index_basename
from torch import Tensor, nn

from composer_dataagent.recipes.errors import RecipeError, at_least, need_columns
from composer_dataagent.recipes.excerpts import decoder_of
from composer_dataagent.recipes.labels import IGNORED
from composer_dataagent.signals.huggingface import huggingface_model

log = logging.getLogger(__name__)


class Tokens(StreamingDataset):
    """Sequences of tokens from MDS shards that ``tools/convert_text.py`` writes, of one length.

    Args:
        length (int): Tokens of a sample: longer sequences are cut, shorter ones are padded.
        pad_id (int): Token that stands for padding, which is neither seen nor learned. Default:
            ``0``.
        **streaming (Any): Arguments of ``streaming.StreamingDataset``.

    Attributes:
        vocabulary (int | None): Token ids are below this; None where the shards do not tell.
        classes (int | None): Likewise of classes.
        tokenizer (str | None): What made the tokens; None where the shards do not tell, or differ.

    Raises:
        ValueError: ``length`` is below 2, or ``pad_id`` below 0, or packed sequences are longer
            than ``length``: of each, the rest would never be seen.
    """

    def __init__(self, *, length: int, pad_id: int = 0, **streaming: Any) -> None:
        at_least(2, length=length)
        at_least(0, pad_id=pad_id)
        super().__init__(**streaming)
        self.num_tokens = length  # `length` is streaming's own: how many samples there are
        self.pad_id = pad_id
        need_columns(self.shards, tokens="tokens")
        facts = [_facts(stream) for stream in self.streams]
        self.vocabulary, self.classes = (
            max((fact[name] for fact in facts if name in fact), default=None)
            for name in ("vocabulary", "classes")
        )
        tokenizers = {fact.get("tokenizer") for fact in facts}
        self.tokenizer: str | None = tokenizers.pop() if len(tokenizers) == 1 else None
        if (packed := max(map(_packed_length, self.shards), default=0)) > length:
            raise ValueError(
                f"length={length} would cut the shards' sequences of {packed} tokens: give "
                f"length={packed}, or convert the texts again with --length {length}"
            )
        if (longest := max((fact.get("length", 0) for fact in facts), default=0)) > length:
            log.warning("Sequences of up to %d tokens are cut to length=%d", longest, length)

    def padded(self, sample: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Ids and mask of a sample's ``tokens``, int64 ``[length]``; the mask is 1 where they are.

        Args:
            sample (dict[str, Any]): As streaming decodes it.
        """
        tokens = sample["tokens"][: self.num_tokens]
        ids = torch.full((self.num_tokens,), self.pad_id)
        ids[: len(tokens)] = torch.from_numpy(tokens.astype("int64"))
        mask = torch.zeros_like(ids)
        mask[: len(tokens)] = 1
        return ids, mask

    def text_of(self, sample: dict[str, Any]) -> str | None:
        """How a sample's tokens begin, for a report; None where their tokenizer is not known.

        Args:
            sample (dict[str, Any]): As streaming decodes it.
        """
        decode = None if self.tokenizer is None else decoder_of(self.tokenizer)
        return None if decode is None else decode(sample["tokens"])


class TokenSequences(Tokens):
    """Sequences for causal language models, see :class:`Tokens`.

    A sample is ``{"input_ids", "attention_mask", "labels"}``, each int64 ``[length]``. Labels are
    the tokens themselves, to be shifted by the model, and -100 for padding and for a prompt.
    """

    def get_item(self, sample_id: int, retry: int = 7) -> dict[str, Tensor]:
        """The sample as the model wants it."""
        sample = super().get_item(sample_id, retry)
        ids, mask = self.padded(sample)
        labels = ids.masked_fill(mask == 0, IGNORED)
        labels[: int(sample.get("prompt", 0))] = IGNORED
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class SequenceClassification(Tokens):
    """Sequences with a class each (``tools/convert_text.py --label-key``), see :class:`Tokens`.

    A sample is ``{"input_ids", "attention_mask", "labels"}``: int64 ``[length]`` twice, and the
    class label, an integer.

    Raises:
        ValueError: The shards have no classes.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        need_columns(self.shards, label="label")

    def get_item(self, sample_id: int, retry: int = 7) -> dict[str, Any]:
        """The sample as the model wants it."""
        sample = super().get_item(sample_id, retry)
        ids, mask = self.padded(sample)
        return {"input_ids": ids, "attention_mask": mask, "labels": int(sample["label"])}


def check_tokens(key: str, dataset: Any, model: nn.Module) -> None:
    """Refuse tokens and classes that a model has no row for; torch would say `out of range`.

    Args:
        key (str): Where the dataset stands in the recipe, for messages.
        dataset (Any): Any dataset; only :class:`Tokens` are looked at.
        model (nn.Module): Any model; only those of Hugging Face are.

    Raises:
        RecipeError: The model's vocabulary, positions or classes are too few.
    """
    config = getattr(huggingface_model(model), "config", None)
    if config is None or not isinstance(dataset, Tokens):
        return
    size, positions = (
        getattr(config, name, None) for name in ("vocab_size", "max_position_embeddings")
    )
    if size is not None and dataset.vocabulary is not None and dataset.vocabulary > size:
        raise RecipeError(
            f"{key} has a vocabulary of {dataset.vocabulary} tokens, and the model one of {size}: "
            f"give a model of vocab_size={dataset.vocabulary}, or convert the texts with the "
            "model's own tokenizer"
        )
    if size is not None and dataset.pad_id >= size:
        raise RecipeError(
            f"{key}.pad_id={dataset.pad_id} is outside of the model's vocabulary of {size} tokens"
        )
    if positions is not None and dataset.num_tokens > positions:
        raise RecipeError(
            f"{key}.length={dataset.num_tokens} is more than the model's {positions} positions: "
            f"give at most {positions}, or a model of more"
        )
    labels = getattr(config, "num_labels", None)
    classified = isinstance(dataset, SequenceClassification) and dataset.classes is not None
    if classified and labels is not None and dataset.classes > labels:
        raise RecipeError(
            f"{key} has {dataset.classes} classes, and the model {labels}: give a model of "
            f"num_classes={dataset.classes}"
        )


def _facts(stream: Stream) -> dict[str, Any]:
    """What ``tools/convert_text.py`` wrote into the index, beside what streaming reads there."""
    index = Path(stream.local, stream.split, get_index_basename())
    return json.loads(index.read_text()).get("tokens", {})


def _packed_length(shard: Any) -> int:
    """Tokens of each of a shard's sequences, 0 where they are of various lengths."""
    if "tokens" not in getattr(shard, "column_names", ()):
        return 0
    # Such as ndarray:uint16:512, or without the length.
    encoding = shard.column_encodings[shard.column_names.index("tokens")]
    shape = encoding.split(":")[2:]
    return int(shape[0]) if len(shape) == 1 and shape[0].isdecimal() else 0
