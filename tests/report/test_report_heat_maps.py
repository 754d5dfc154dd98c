# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is selected of classes and shards: few numbers in the history, the same in every form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsed_page import ParsedPage
from report_rows import make_run
from synthetic_run import write_run

from composer_dataagent.report import group_shards, read_run, write_page
from composer_dataagent.report.heat_maps import draw_classes, draw_shards
from composer_dataagent.report.shard_groups import MOST_GROUPS

SHARDS = "Which shards are read"


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=300))
def test_neighbouring_shards_are_counted_together(counts: list[int]) -> None:
    groups = group_shards(np.array(counts))
    assert len(groups) == min(len(counts), MOST_GROUPS)
    bounds = [(int(a), int(b or a)) for a, _, b in (name.partition("-") for name in groups)]
    assert [i for a, b in bounds for i in range(a, b + 1)] == list(range(len(counts)))
    sizes = {b - a for a, b in bounds}
    assert max(sizes) - min(sizes) <= 1
    assert list(groups.values()) == [sum(counts[a : b + 1]) for a, b in bounds]


@pytest.mark.parametrize("shards", [3, 40, 350])
def test_a_row_stays_small_whatever_the_number_of_shards(tmp_path: Path, shards: int) -> None:
    run = write_run(tmp_path, shards=shards, num_samples=800, epochs=3, samples=False)
    for row in run.rows:
        told = {key: row[key] for key in ("shard_selected", "shard_total")}
        assert len(str(told)) < 2_000
        assert sum(told["shard_selected"].values()) == row["selected"]
    page = ParsedPage(write_page([run], tmp_path / "page.html"))
    assert SHARDS in page.texts["h3"]
    grouped = any("of neighbouring shards" in text for text in page.texts["p"])
    assert grouped == (shards > MOST_GROUPS)


def test_the_table_says_what_the_colours_say() -> None:
    rows = [
        {"epoch": 4, "shard_total": {"0-1": 100, "2": 50}, "shard_selected": {"0-1": 25, "2": 50}},
        {"epoch": 5},  # of before it was told
        {"epoch": 6, "shard_total": {"0-1": 100, "2": 0}, "shard_selected": {"0-1": 0, "2": 0}},
    ]
    picture = draw_shards(make_run("data_agent", rows))
    assert picture is not None
    assert picture.table == [
        {"Shard": "0\N{EN DASH}1", "epoch 4": "25 %", "epoch 5": "\N{EN DASH}", "epoch 6": "0 %"},
        {"Shard": "2", "epoch 4": "100 %", "epoch 5": "\N{EN DASH}", "epoch 6": "\N{EN DASH}"},
    ]
    (image,) = picture.figure.axes[0].images
    expected = [[0.25, np.nan, 0], [1, np.nan, np.nan]]
    np.testing.assert_array_equal(np.asarray(image.get_array()), expected)


def test_a_table_of_many_has_its_first_and_last() -> None:
    total = {str(label): 10 for label in range(1000)}
    rows = [{"epoch": e, "class_total": total, "class_selected": total} for e in range(90)]
    picture = draw_classes(make_run("random", rows, class_names=["<first>"]))
    assert picture is not None and 10 <= len(picture.table) <= 50
    assert (picture.table[0]["Class"], picture.table[-1]["Class"]) == ("<first>", "999")
    headings = list(picture.table[0])
    assert headings[1] == "epoch 0" and headings[-1] == "epoch 89" and len(headings) <= 13


def test_a_table_is_one_for_screen_readers_too(tmp_path: Path) -> None:
    page = ParsedPage(write_page([write_run(tmp_path, samples=False)], tmp_path / "page.html"))
    assert page.texts["summary"].count("As a table") == 2
    labels = {each.get("aria-label") for each in page.all("div") if each.get("role") == "region"}
    assert labels == {
        "Summary table",
        "Who gets selected, as a table",
        f"{SHARDS}, as a table",
    }
    assert all(each["scope"] in ("col", "row") for each in page.all("th"))
    assert {"Class", "Shard", "epoch 0", "digit 3"} <= set(page.texts["th"])


@pytest.mark.parametrize("shards", [None, {}, {"0": None}, {"0": "x", "": 3, "a-b": 0}])
def test_run_folders_without_counts_or_with_odd_ones(tmp_path: Path, shards: object) -> None:
    """Older ones have none."""
    run = write_run(tmp_path, epochs=2, shards=0, samples=False)
    rows = [row | {"shard_total": shards, "shard_selected": None} for row in run.rows]
    page = write_page([make_run("random", rows)], tmp_path / "page.html")
    assert SHARDS not in ParsedPage(page).texts["h3"]
    assert SHARDS not in ParsedPage(write_page([read_run(run.path)], page)).texts["h3"]
