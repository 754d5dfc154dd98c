# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a wrong label does to what language models learn; and what their tables say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from comparison.language import LENGTH, instructions, topics
from comparison.measures import LOSS, measure_of, measured
from comparison.rows import read_rows
from comparison.shards import prepare, wrong_labels
from comparison.sources import Source
from comparison.splits import answers, sequences
from comparison.table import best_rule, difference_to, to_markdown
from hypothesis import given
from hypothesis import strategies as st

from composer_dataagent.recipes.tokens import IGNORED, TokenSequences


@given(row=st.integers(0, 4), label=st.integers(0, 4))
def test_junk_is_the_same_tokens_in_another_order(row: int, label: int) -> None:
    tokens = np.arange(5 * 64, dtype=np.uint16).reshape(5, 64)
    split = sequences(tokens)
    found, again = (split.sample(row, label)["tokens"] for _ in range(2))
    assert np.array_equal(found, again) and found.dtype == np.uint16
    assert np.array_equal(np.sort(found), tokens[row])
    assert np.array_equal(found, tokens[row]) == (row == label)


@given(
    sizes=st.lists(st.tuples(st.integers(0, 12), st.integers(2, 12)), min_size=1, max_size=8),
    length=st.integers(2, 12),
    data=st.data(),
)
def test_a_wrong_response_is_that_of_another_prompt(
    sizes: list[tuple[int, int]], length: int, data: st.DataObject
) -> None:
    pairs = [([at] * prompt, [100 + at] * response) for at, (prompt, response) in enumerate(sizes)]
    split = answers(pairs, length, "uint16")
    kept = [pair for pair in pairs if len(pair[0]) < length]
    assert list(split.labels) == list(range(len(kept)))
    if not kept:
        return
    row, label = (data.draw(st.integers(0, len(kept) - 1)) for _ in range(2))
    found = split.sample(row, label)
    assert found["tokens"].tolist() == (kept[row][0] + kept[label][1])[:length]
    assert found["prompt"] == len(kept[row][0])


def test_models_are_given_what_the_condition_says(tmp_path: Path) -> None:
    pairs = [([at, at], [100 + at] * 3) for at in range(50)]
    split = answers(pairs, 8, "uint16")
    folder = prepare(Source(split, split), tmp_path, "noise40", 0)
    wrong = wrong_labels(folder)
    assert wrong.mean() == 0.4
    dataset = TokenSequences(length=8, local=str(folder), batch_size=1)
    for row, is_wrong in enumerate(wrong):
        sample = dataset[row]
        ids, labels = sample["input_ids"].tolist(), sample["labels"].tolist()
        assert ids[:2] == [row, row] and (ids[2] != 100 + row) == is_wrong
        assert labels == [IGNORED] * 2 + [ids[2]] * 3 + [IGNORED] * 3


def test_real_texts_are_sequences_of_the_recipe() -> None:
    for train, evaluate in (topics(), instructions()):
        assert len(train.labels) > 5 * len(evaluate.labels) > 500
        tokens = train.sample(7, 7)["tokens"]
        assert len(tokens) <= LENGTH and tokens.max() <= 256
        assert bytes(tokens[tokens < 256].tolist()).decode(errors="ignore").strip()


def row(selector: str, seed: int, loss: float) -> dict[str, object]:
    key = {"source": "causal_lm", "ratio": 0.5, "condition": "clean"}
    of_run = dict.fromkeys(
        ("share", "cost", "overhead", "coverage", "wrong", "wrong_selected"), 0.0
    )
    return key | of_run | {"selector": selector, "seed": seed, "loss": loss, "churn": None}


def test_of_losses_the_smallest_is_best() -> None:
    rows = [
        *(row("random", seed, 2.0 + seed) for seed in range(3)),
        *(row("entropy", seed, 2.2 + seed) for seed in range(3)),
        *(row("data_agent", seed, 1.9 + seed) for seed in range(3)),
    ]
    assert measure_of(rows) is LOSS and best_rule(rows) == ("random", 3)
    found = difference_to(rows, "data_agent", "random")
    assert found is not None and found.mean == pytest.approx(-0.1)
    table = to_markdown(rows)
    assert "nats (below zero is better)" in table
    assert "| clean | data_agent |  | -0.100 [-0.100, -0.100] |  | -0.100" in table
    of_one = to_markdown([row("random", 0, 2.0), row("data_agent", 0, 1.9)])
    assert "| clean | data_agent |  | -0.100 (1 seed) |" in of_one


def test_a_run_is_measured_by_what_composer_reports(tmp_path: Path) -> None:
    language = {"LanguageCrossEntropy": 1.5, "LanguagePerplexity": 4.5}
    assert measured(language) == {"loss": 1.5}
    assert measured({"MulticlassAccuracy": 0.75}) == {"accuracy": 0.75}
    results = tmp_path / "results.jsonl"
    results.write_text('{"source": "a"}\n')
    with pytest.raises(Exception, match="it lacks accuracy or loss, condition, ratio"):
        read_rows(results)
