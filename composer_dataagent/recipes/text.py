# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Texts and class labels, as a streaming dataset that a recipe can name."""

from __future__ import annotations

import re
import zlib
from typing import Any

import torch
from streaming import StreamingDataset
from torch import Tensor

from composer_dataagent.recipes.errors import at_least, need_columns

# A word, or any other visible character.
_WORD = re.compile(r"\w+|[^\w\s]")


class TextClassification(StreamingDataset):
    """Texts and class labels from MDS shards: ``(int64 [length], int)``.

    Words become ids by hashing (see :func:`word_ids`), so no vocabulary has to be kept.

    Args:
        text (str): Column of the text: ``str``, or ``bytes`` of UTF-8. Default: ``text``.
        label (str): Column of the class label, an integer. Default: ``label``.
        length (int): Words of a sample: longer texts are cut, shorter ones are padded with 0.
            Default: ``32``.
        vocabulary (int): Ids are below this. Default: ``8192``.
        **streaming (Any): Arguments of ``streaming.StreamingDataset``.

    Raises:
        ValueError: ``length`` is below 1, or ``vocabulary`` below 2.
    """

    def __init__(
        self,
        *,
        text: str = "text",
        label: str = "label",
        length: int = 32,
        vocabulary: int = 8192,
        **streaming: Any,
    ) -> None:
        at_least(1, length=length)
        at_least(2, vocabulary=vocabulary)
        super().__init__(**streaming)
        need_columns(self.shards, text=text, label=label)
        self.columns = (text, label)
        self.num_words = length  # `length` is streaming's own: how many samples there are
        self.vocabulary = vocabulary

    def get_item(self, sample_id: int, retry: int = 7) -> tuple[Tensor, int]:
        """The sample as the model wants it."""
        sample = super().get_item(sample_id, retry)
        text, label = (sample[column] for column in self.columns)
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        return word_ids(text, self.num_words, self.vocabulary), int(label)


def word_ids(text: str, length: int, vocabulary: int) -> Tensor:
    """Ids of a text's first words, by the CRC-32 of each (the hashing trick).

    Args:
        text (str): Upper case does not matter; every character that is neither white nor of a word
            is a word of its own.
        length (int): How many words.
        vocabulary (int): Ids are in [1, vocabulary). Two words may share one.

    Returns:
        Tensor: ``[length]`` int64; 0 after the text's end.
    """
    ids = torch.zeros(length, dtype=torch.int64)
    words = _WORD.findall(text.lower())[:length]
    hashes = [zlib.crc32(word.encode(errors="replace")) for word in words]
    ids[: len(words)] = torch.tensor(hashes, dtype=torch.int64) % (vocabulary - 1) + 1
    return ids
