# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Samples of which each can be had with its own label or with another: what conditions work on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from conversion.sequences import Counts, one_each
from numpy.typing import NDArray


@dataclass(frozen=True)
class Split:
    """Samples, and what is true of them.

    Attributes:
        labels (NDArray[np.int64]): ``[N]`` the right label of each.
        columns (dict[str, str]): Of its shards, with their encodings.
        sample (Callable[[int, int], dict[str, Any]]): The sample of a row with a label, the right
            one or another.
    """

    labels: NDArray[np.int64]
    columns: dict[str, str]
    sample: Callable[[int, int], dict[str, Any]]


def labelled(inputs: NDArray, labels: NDArray[np.int64]) -> Split:
    """Images or texts, and their classes.

    Args:
        inputs (NDArray): ``[N, H, W]`` uint8 images or ``[N]`` texts.
        labels (NDArray[np.int64]): ``[N]``.
    """
    if inputs.dtype.kind == "U":
        name, encoding = "text", "str"
    else:
        name, encoding = "image", f"ndarray:uint8:{','.join(map(str, inputs.shape[1:]))}"
    return Split(
        labels,
        {name: encoding, "label": "int"},
        lambda row, label: {name: inputs[row], "label": label},
    )


def sequences(tokens: NDArray) -> Split:
    """Sequences that a language model learns whole. A wrong label makes one junk.

    Junk has the same tokens in random order: what a broken extraction leaves of a page. Nothing can
    be learned from it but how often each token comes.

    Args:
        tokens (NDArray): ``[N, T]``; the label of each is its row.
    """

    def sample(row: int, label: int) -> dict[str, Any]:
        right = tokens[row]
        if label != row:
            right = np.random.default_rng([row, label]).permutation(right)
        return {"tokens": right}

    encoding = f"ndarray:{tokens.dtype}:{tokens.shape[1]}"
    return Split(np.arange(len(tokens)), {"tokens": encoding}, sample)


def answers(pairs: Sequence[tuple[list[int], list[int]]], length: int, dtype: str) -> Split:
    """Prompts and responses, of which a language model learns the latter.

    A wrong label gives a prompt the response of another one.

    Args:
        pairs (Sequence[tuple[list[int], list[int]]]): Tokens of each prompt and response; the label
            is the row. Prompts that leave no room for a response are left out.
        length (int): Where a sequence is cut.
        dtype (str): Of the sequences.
    """
    kept = [(prompt, response) for prompt, response in pairs if len(prompt) < length]

    def sample(row: int, label: int) -> dict[str, Any]:
        (found,) = one_each([(kept[row][0], kept[label][1])], length, dtype, Counts())
        return found

    return Split(np.arange(len(kept)), {"tokens": f"ndarray:{dtype}", "prompt": "int"}, sample)
