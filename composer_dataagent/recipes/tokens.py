# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Sequences of tokens, as a streaming dataset that a recipe can name."""

from __future__ import annotations

from typing import Any

import torch
from streaming import StreamingDataset
from torch import Tensor

from composer_dataagent.recipes.errors import at_least

IGNORED = -100  # the label of a token that is not learned


class TokenSequences(StreamingDataset):
    """Sequences from MDS shards that ``tools/convert_text.py`` writes, for causal language models.

    A sample is ``{"input_ids", "attention_mask", "labels"}``, each int64 ``[length]``. Labels are
    the tokens themselves, to be shifted by the model, and -100 for padding and for a prompt.

    Args:
        length (int): Tokens of a sample: longer sequences are cut, shorter ones are padded.
        pad_id (int): Token that stands for padding, which is neither seen nor learned. Default:
            ``0``.
        **streaming (Any): Arguments of ``streaming.StreamingDataset``.

    Raises:
        ValueError: ``length`` is below 2, or ``pad_id`` below 0.
    """

    def __init__(self, *, length: int, pad_id: int = 0, **streaming: Any) -> None:
        at_least(2, length=length)
        at_least(0, pad_id=pad_id)
        super().__init__(**streaming)
        self.num_tokens = length  # `length` is streaming's own: how many samples there are
        self.pad_id = pad_id

    def get_item(self, sample_id: int, retry: int = 7) -> dict[str, Tensor]:
        """The sample as the model wants it."""
        sample = super().get_item(sample_id, retry)
        tokens = sample["tokens"][: self.num_tokens]
        count, prompt = len(tokens), int(sample.get("prompt", 0))
        ids = torch.full((self.num_tokens,), self.pad_id)
        ids[:count] = torch.from_numpy(tokens.astype("int64"))
        labels = ids.clone()
        labels[:prompt] = IGNORED
        labels[count:] = IGNORED
        mask = torch.zeros_like(ids)
        mask[:count] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}
