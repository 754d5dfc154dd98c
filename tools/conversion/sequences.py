# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Documents to sequences: packed, one each, prompt and response, or with a class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Sample = dict[str, Any]


@dataclass
class Counts:
    """What became of the documents.

    Attributes:
        documents (int): That were read.
        tokens (int): Of these, with the tokens that end them.
        samples (int): That were written.
        tokens_written (int): In these.
        documents_cut (int): Of which only the beginning was written.
        documents_dropped (int): Of which nothing was written.
    """

    documents: int = 0
    tokens: int = 0
    samples: int = 0
    tokens_written: int = 0
    documents_cut: int = 0
    documents_dropped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


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
        length (int): At least 1.
        dtype (str): Of the sequences.
        counts (Counts): Everything but ``documents`` is added.

    Yields:
        Sample: ``tokens`` ``[<= length]`` and ``prompt``, how many of them are the prompt's. A
        document whose prompt leaves no room for a response is dropped.
    """
    for prompt, rest in documents:
        whole = len(prompt) + len(rest)
        counts.tokens += whole
        if len(prompt) >= length:
            counts.documents_dropped += 1
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
        yield {"tokens": np.array([first, *text[: length - 2], last], dtype), "label": label}
