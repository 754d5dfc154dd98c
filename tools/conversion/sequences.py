# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Documents to sequences: packed, one each, prompt and response, or with a class."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Sample = dict[str, Any]


@dataclass
class Counts:
    """What became of the documents.

    Attributes:
        documents (int): That were read.
        tokens (int): Of these, with the tokens that end them.
        samples (int): That were written; each has a token, or a class, to learn.
        tokens_written (int): In these.
        documents_cut (int): Of which only the beginning was written.
        dropped_empty (int): Of which nothing was written, because they have no token but the one
            that ends them: nothing comes before it that it could be learned from.
        dropped_long_prompt (int): Likewise, because the prompt leaves no room for the response.
        of_class (Counter[int]): Samples of each class.
    """

    documents: int = 0
    tokens: int = 0
    samples: int = 0
    tokens_written: int = 0
    documents_cut: int = 0
    dropped_empty: int = 0
    dropped_long_prompt: int = 0
    of_class: Counter[int] = field(default_factory=Counter)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    @property
    def classes(self) -> int:
        """Classes are below this; 0 without any."""
        return max(self.of_class, default=-1) + 1

    def as_dict(self) -> dict[str, int]:
        """By name; of classes, if there are any, how many, and the samples of two of them."""
        told = {name: count for name, count in vars(self).items() if name != "of_class"}
        if self.of_class:
            told["classes"] = self.classes
            whole = len(self.of_class) == self.classes  # else there is one without a sample
            told["smallest_class"] = min(self.of_class.values()) if whole else 0
            told["largest_class"] = max(self.of_class.values())
        return told

    def save(self, path: Path) -> None:
        """Into a new file, for :meth:`load`."""
        path.write_text(json.dumps(vars(self)))

    @classmethod
    def load(cls, path: Path) -> Counts:
        """Those that were saved."""
        kept = json.loads(path.read_text())
        of_class = Counter({int(label): count for label, count in kept.pop("of_class").items()})
        return cls(**kept, of_class=of_class)


def packed(
    tokens: Iterable[list[int]], length: int, dtype: str, counts: Counts
) -> Iterator[Sample]:
    """One stream of tokens, cut into sequences of ``length``; what is left at its end is dropped.

    Args:
        tokens (Iterable[list[int]]): The stream, in pieces, with the tokens that end documents.
        length (int): At least 1.
        dtype (str): Of the sequences.
        counts (Counts): Tokens and samples are added.

    Yields:
        Sample: ``tokens`` ``[length]``.
    """
    left: list[int] = []
    for piece in tokens:
        counts.tokens += len(piece)
        left += piece
        whole = len(left) // length * length
        for start in range(0, whole, length):
            counts.samples += 1
            counts.tokens_written += length
            yield {"tokens": np.array(left[start : start + length], dtype)}
        left = left[whole:]


def one_each(
    documents: Iterable[tuple[list[int], list[int]]], length: int, dtype: str, counts: Counts
) -> Iterator[Sample]:
    """A sequence from each document, cut at ``length``; not padded, which is done when it is read.

    Args:
        documents (Iterable[tuple[list[int], list[int]]]): A prompt, of which nothing is learned
            (may be empty), and the rest with the token that ends it.
        length (int): At least 2.
        dtype (str): Of the sequences.
        counts (Counts): Everything but ``documents`` is added.

    Yields:
        Sample: ``tokens`` ``[<= length]`` and ``prompt``, how many of them are the prompt's. A
        document that has nothing to learn is dropped: a loss over no token is not a number.
    """
    for prompt, rest in documents:
        whole = len(prompt) + len(rest)
        counts.tokens += whole
        if whole < 2:
            counts.dropped_empty += 1
            continue
        if len(prompt) >= length:
            counts.dropped_long_prompt += 1
            continue
        counts.documents_cut += whole > length
        counts.samples += 1
        counts.tokens_written += min(whole, length)
        yield {"tokens": np.array((prompt + rest)[:length], dtype), "prompt": len(prompt)}


def labelled(
    documents: Iterable[tuple[list[int], int]],
    length: int,
    dtype: str,
    ends: tuple[int, int],
    counts: Counts,
) -> Iterator[Sample]:
    """A sequence from each document and its class; not padded, which is done when it is read.

    Args:
        documents (Iterable[tuple[list[int], int]]): A text, and its class.
        length (int): At least 2: of a longer one the text's end is left out.
        dtype (str): Of the sequences.
        ends (tuple[int, int]): The tokens around each text.
        counts (Counts): Everything but ``documents`` is added.

    Yields:
        Sample: ``tokens`` ``[<= length]`` and ``label``.
    """
    first, last = ends
    for text, label in documents:
        whole = len(text) + 2
        counts.tokens += whole
        counts.documents_cut += whole > length
        counts.samples += 1
        counts.tokens_written += min(whole, length)
        counts.of_class[label] += 1
        yield {"tokens": np.array([first, *text[: length - 2], last], dtype), "label": label}
