# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Real text that comes with every Python, as sequences of bytes for language models."""

from __future__ import annotations

import random
import sysconfig
from itertools import islice
from pathlib import Path

import numpy as np
from conversion.sequences import Counts, packed
from conversion.vocabulary import load_vocabulary
from write_instructions import modules, splits
from write_topics import texts

from comparison.splits import Split, answers, sequences

LENGTH = 128  # as the recipe has it


def topics() -> tuple[Split, Split]:
    """Reference texts, packed: 3,429 sequences to train on, 207 to evaluate on (Python 3.12)."""
    vocabulary = load_vocabulary("bytes")
    found = texts()

    def of(split: str) -> Split:
        documents = ([*tokens, vocabulary.end] for tokens in vocabulary.encode(found[split]))
        samples = packed(documents, LENGTH, vocabulary.dtype, Counts())
        return sequences(np.stack([sample["tokens"] for sample in samples]))

    return of("train"), of("eval")


def library() -> tuple[Split, Split]:
    """Source of Python's library, packed module by module: 9,600 sequences, and 500 to evaluate.

    As many modules as that takes, each tenth of them to evaluate on.
    """
    vocabulary = load_vocabulary("bytes")
    paths = [*modules(Path(sysconfig.get_path("stdlib"))).values()]
    held_out = paths[::10]
    others = [path for at, path in enumerate(paths) if at % 10]
    random.Random(0).shuffle(others)  # the first letters of names are no sample

    def of(paths: list[Path], count: int) -> Split:
        texts = (path.read_text("utf-8", errors="replace") for path in paths)
        documents = ([*tokens, vocabulary.end] for tokens in vocabulary.encode(list(texts)))
        samples = packed(documents, LENGTH, vocabulary.dtype, Counts())
        return sequences(np.stack([sample["tokens"] for sample in islice(samples, count)]))

    return of(others, 9_600), of(held_out, 500)


def instructions() -> tuple[Split, Split]:
    """What functions and classes are for: some 4,200 pairs to train on, 500 to evaluate on."""
    vocabulary = load_vocabulary("bytes")
    found = splits()

    def of(split: str) -> Split:
        prompts, responses = map(vocabulary.encode, zip(*found[split], strict=True))
        ended = [[*response, vocabulary.end] for response in responses]
        return answers([*zip(prompts, ended, strict=True)], LENGTH, vocabulary.dtype)

    return of("train"), of("eval")
