# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Passages of documentation: different ones, of a fixed length, no file on both sides."""

from __future__ import annotations

import importlib
from pathlib import Path

import click
import numpy as np
import pytest
from comparison.passages import CHARACTERS, draw_passages, passages_of
from comparison.shards import prepare, wrong_labels
from comparison.sources import Source
from comparison.splits import labelled
from streaming import StreamingDataset

# Each passage starts with its package, file and paragraph.
FILES, PARAGRAPHS = 70, 10


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two packages that would fail if they were imported."""
    names = ("documented_a", "documented_b")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('imported')\n")
        (tmp_path / name / "template.py").write_text("def {{ name }}():\n")
        for at in range(FILES):
            own = [f"{name} f{at} p{p} ".ljust(CHARACTERS, "x") for p in range(PARAGRAPHS)]
            shared = "This is in all files. ".ljust(CHARACTERS, "y")
            text = "\n\n".join([*own, shared, "Too short."])
            (tmp_path / name / f"file{at}.py").write_text(f'def f():\n    r"""{text} \\d"""\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return names


def test_passages_are_different_and_no_file_is_on_both_sides(packages: tuple[str, str]) -> None:
    train, evaluate = draw_passages(packages, 100, 50)
    assert (train, evaluate) == draw_passages(packages, 100, 50)
    assert [label for _, label in train] == [0] * 100 + [1] * 100
    assert [label for _, label in evaluate] == [0] * 50 + [1] * 50
    texts = [text for text, _ in train + evaluate]
    assert len(set(texts)) == len(texts) and {len(text) for text in texts} == {CHARACTERS}
    assert sum(text.startswith("This is in all") for text in texts) <= 1

    def files(split: list[tuple[str, int]]) -> list[tuple[str, ...]]:
        return [tuple(text.split()[:2]) for text, _ in split if text.startswith("documented")]

    assert not set(files(train)) & set(files(evaluate))
    assert all(text.startswith(packages[label]) for text, label in train if "This is" not in text)
    for label in range(2):
        assert len({file for file in files(evaluate) if file[0] == packages[label]}) >= 25
        assert len({file for file in files(train) if file[0] == packages[label]}) >= 25


def test_white_space_and_short_ends_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    words = " ".join(["word"] * 60)  # 299 characters: two passages and a rest
    path.write_text(f'class A:\n    """{words[:100]}\n        \t{words[100:]} é\n    """\n')
    line = " ".join(f"{words[:100]} {words[100:]}".split())
    assert list(passages_of(path)) == [line[:CHARACTERS], line[CHARACTERS : 2 * CHARACTERS]]


def test_what_is_missing_is_named(packages: tuple[str, str]) -> None:
    with pytest.raises(click.ClickException, match="not_there is not installed: pip install"):
        draw_passages(["not_there"], 1, 1)
    with pytest.raises(click.ClickException, match="documented_a has too few docstrings for 1000"):
        draw_passages(packages, 1000, 50)


def test_a_real_package_has_passages() -> None:
    train, evaluate = draw_passages(["networkx"], 60, 30)
    assert len(train) == 60 and len(evaluate) == 30
    assert all(text.isascii() and text.isprintable() for text, _ in train + evaluate)


@pytest.mark.parametrize("condition", ["asymmetric40", "tail50", "duplicates"])
def test_conditions_are_those_of_texts_too(tmp_path: Path, condition: str) -> None:
    labels = np.arange(200) % 4
    texts = np.array([f"text {at} of class {at % 4}" for at in range(200)])
    source = Source(labelled(texts, labels), labelled(texts[:8], labels[:8]))
    folder = prepare(source, tmp_path, condition, 0)
    dataset = StreamingDataset(local=str(folder), batch_size=1)
    samples = [dataset[at] for at in range(dataset.size)]
    wrong = wrong_labels(folder)
    assert len(samples) == len(wrong)
    for sample, is_wrong in zip(samples, wrong, strict=True):
        assert (int(sample["text"].split()[-1]) != sample["label"]) == is_wrong
    assert wrong.mean() == (0.4 if condition == "asymmetric40" else 0)
