# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Texts as a recipe's dataset serves them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from streaming import MDSWriter

from composer_dataagent.recipes import RecipeError
from composer_dataagent.recipes.data import DATASETS
from composer_dataagent.recipes.text import word_ids


@given(text=st.text(), length=st.integers(1, 40), vocabulary=st.integers(2, 10_000))
def test_ids_are_in_range_and_zero_is_padding(text: str, length: int, vocabulary: int) -> None:
    ids = word_ids(text, length, vocabulary)
    assert ids.shape == (length,) and ids.dtype == torch.int64
    words = int((ids != 0).sum())
    assert (ids[:words] > 0).all() and (ids[words:] == 0).all() and (ids < vocabulary).all()
    assert (words == 0) == (not text.strip())
    assert torch.equal(ids, word_ids(f" {text} ", length, vocabulary))


def test_words_keep_their_ids() -> None:
    ids = word_ids("The cat, the hat; naïve_2.", 12, 8192).tolist()
    the, cat, comma = ids[:3]
    assert ids[3] == the and len({the, cat, comma, ids[4]}) == 4
    assert ids[5:8] == word_ids("; naïve_2 .", 3, 8192).tolist() and ids[8:] == [0] * 4
    # Of other machines and versions, too: a checkpoint's embeddings belong to them.
    assert word_ids("the", 1, 8192).tolist() == [1 + 0x3C456DE6 % 8191]


@pytest.mark.parametrize("encoding", ["str", "bytes"])
def test_texts_become_ids(tmp_path: Path, encoding: str) -> None:
    texts = ["x = torch.zeros(3)", "", "é" * 3 + " word" * 50]
    with MDSWriter(out=str(tmp_path), columns={"passage": encoding, "y": "int"}) as writer:
        for label, text in enumerate(texts):
            value = text if encoding == "str" else text.encode()
            writer.write({"passage": value, "y": label})
    arguments = {"local": str(tmp_path), "text": "passage", "label": "y", "length": 20}
    dataset = DATASETS.build("data", "text_classification", arguments, batch_size=1)
    assert len(dataset) == len(texts)
    for label, text in enumerate(texts):
        ids, found = dataset[label]
        assert found == label and torch.equal(ids, word_ids(text, 20, 8192))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 0}, "data: length=0 is too small: give at least 1"),
        ({"vocabulary": 1}, "data: vocabulary=1 is too small: give at least 2"),
    ],
)
def test_sizes_too_small_are_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        DATASETS.build("data", "text_classification", arguments, batch_size=1)
