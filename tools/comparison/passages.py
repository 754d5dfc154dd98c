# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Passages of documentation, and which package each is from: real text without a download."""

from __future__ import annotations

import ast
import importlib.util
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np

# The classes. Composer, streaming and scikit-learn (of which the digits are) bring them all, with
# more documentation than is drawn here.
PACKAGES = (
    "matplotlib",
    "networkx",
    "numpy",
    "scipy",
    "sklearn",
    "sympy",
    "torch",
    "transformers",
)
CHARACTERS = 128
# A class is drawn from at least so many files: passages of one file are about one thing, and few
# files would make an evaluation of chance.
_LEAST_FILES = 32

Passages = list[tuple[str, int]]


def draw_passages(packages: Sequence[str], train: int, evaluate: int) -> tuple[Passages, Passages]:
    """Passages and class labels, the same ones for the same installed versions.

    All are different, and those of a file are all to train on or all to evaluate on. Files are
    parsed, never imported.

    Args:
        packages (Sequence[str]): Importable names; their positions are the labels.
        train (int): Passages of each package to train on.
        evaluate (int): Passages of each package to evaluate on.

    Returns:
        tuple[Passages, Passages]: To train on, and to evaluate on, package by package.

    Raises:
        click.ClickException: A package is not installed, or has too little documentation.
    """
    seen: set[str] = set()
    splits: tuple[Passages, Passages] = ([], [])
    for label, package in enumerate(packages):
        rng = np.random.default_rng(label)
        files = iter(_shuffled(_files_of(package), rng))
        # The smaller part first: what is left of the files is enough for it, whatever is drawn.
        for split, count in zip(reversed(splits), (evaluate, train), strict=True):
            drawn: list[str] = []
            most = math.ceil(count / _LEAST_FILES)
            while len(drawn) < count:
                path = next(files, None)
                if path is None:
                    raise click.ClickException(
                        f"{package} has too few docstrings for {train} + {evaluate} passages: "
                        "install the version that pip chooses for this package"
                    )
                new = [text for text in dict.fromkeys(passages_of(path)) if text not in seen]
                seen.update(new)
                drawn += _shuffled(new, rng)[:most]
            split.extend((text, label) for text in drawn[:count])
    return splits


def passages_of(path: Path) -> Iterator[str]:
    """The docstrings of a Python file, each paragraph cut into passages of 128 ASCII characters.

    White space is one blank. Cuts begin anew with each paragraph, so that a paragraph that several
    docstrings share makes the same passages in each. What is shorter is left out.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that the file's authors got wrong
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:  # a template, or of another version of Python
            return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
            line = " ".join(paragraph.encode("ascii", "ignore").decode().split())
            for at in range(0, len(line) - CHARACTERS + 1, CHARACTERS):
                yield line[at : at + CHARACTERS]


def _files_of(package: str) -> list[Path]:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise click.ClickException(
            f"{package} is not installed: pip install 'composer-dataagent[demo]'"
        )
    return sorted(Path(found.submodule_search_locations[0]).rglob("*.py"))


def _shuffled(items: Sequence, rng: np.random.Generator) -> list:
    return [items[at] for at in rng.permutation(len(items))]
