# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is said of a run in words is what its rows say in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsed_page import ParsedPage

from composer_dataagent.report import Run, write_page
from composer_dataagent.report.verdict import judge_run


def make_run(*rows: dict[str, Any], selector: str = "data_agent", **meta: Any) -> Run:
    told = [{"epoch": i, **row} for i, row in enumerate(rows)]
    return Run(Path("runs/mine"), {"selector": selector, "num_samples": 1000, **meta}, told)


def texts(run: Run, kind: str | None = None) -> str:
    return "\n".join(each.text for each in judge_run(run) if kind in (None, each.kind))


def test_an_agent_that_has_learned_and_one_that_has_not() -> None:
    assert "has learned" in texts(make_run({"fit": 0.9}), "good")
    assert "has not learned" in texts(make_run({"fit": 0.5}), "bad")
    strict = {"selector": {"min_fit": 0.95}}
    assert "below min_fit=0.95" in texts(make_run({"fit": 0.9}, settings=strict), "bad")
    assert "learned" not in texts(make_run({"fit": 0.9}, selector="random"))
    assert "uncertain samples, whatever" in texts(make_run({"target": "entropy"}))


def test_labels_that_are_not_to_be_trusted() -> None:
    told = texts(make_run({"label_trust": 0.52, "flagged": 100}), "note")
    assert "predicts 52 % of the labels only" in told
    assert "100 samples (10.0 %) are probably mislabelled, so many that they were held back" in told
    assert "composer-dataagent suspects runs/mine" in told
    few = texts(make_run({"label_trust": 0.9, "flagged": 10}))
    assert "10 samples (1.0 %) are probably mislabelled." in few and "predicts" not in few
    assert "held back" not in texts(make_run({"flagged": 100}, selector="random"))


def test_a_selection_that_stands_still() -> None:
    rows = {"ratio": 1.0}, {"ratio": 0.5, "churn": 0.5}
    assert "hardly changes" not in texts(make_run(*rows, {"ratio": 0.5, "churn": 0.3}))
    assert "hardly changes" in texts(make_run(*rows, {"ratio": 0.5, "churn": 0.001}), "bad")
    assert "hardly changes" not in texts(make_run({"ratio": 1.0, "churn": 0.0}))


def test_classes_of_which_hardly_anything_is_chosen() -> None:
    row = {
        "ratio": 0.5,
        "class_selected": {"0": 50, "1": 3, "2": 47},
        "class_total": {"0": 100, "1": 100, "2": 100},
    }
    run = make_run(row, class_names=["cat", "dog", "eel"])
    assert "hardly anything is chosen: dog." in texts(run)
    assert "hardly anything" not in texts(make_run({**row, "class_selected": row["class_total"]}))


def test_what_was_never_seen_or_broken_or_slow() -> None:
    told = texts(
        make_run({"coverage": 0.75, "nonfinite": 3, "seconds": 10.0, "agent_seconds": 3.0})
    )
    assert "25.0 % of the samples were never seen" in told
    assert "3 visits had NaN" in told and "30 % of the time went to choosing" in told


NAMES = (
    *("fit", "target", "label_trust", "flagged", "coverage", "ratio", "churn", "nonfinite"),
    *("class_selected", "class_total", "seconds", "agent_seconds"),
)


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.none() | st.floats() | st.integers() | st.just({"0": 1, "x": None}) | st.text(),
    )
)
def test_rows_of_any_kind_are_borne(row: dict[str, Any]) -> None:
    # As read_rows gives them: what has parts is a mapping or absent.
    parts = {k: v for k, v in row.items() if not k.startswith("class") or isinstance(v, dict)}
    numbers = {k: v for k, v in parts.items() if k.startswith("class") or not isinstance(v, dict)}
    for remark in judge_run(make_run(numbers)):
        assert "nan" not in remark.text


@pytest.mark.parametrize("fit", [0.9, 0.2])
def test_the_page_says_it(tmp_path: Path, fit: float) -> None:
    page = ParsedPage(write_page([make_run({"fit": fit})], tmp_path / "page.html"))
    remarks = [remark.text for remark in judge_run(make_run({"fit": fit}))]
    assert remarks and all(text in page.texts["span"] for text in remarks)
