# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Bytes and dollars as people write them, and the table of a plan in any terminal."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from parsed_page import ParsedPage
from rich.console import Console

from composer_dataagent.report import wording
from composer_dataagent.report.plan import MODE_NAMES, describe, print_plan, write_plan


@pytest.fixture
def plan() -> dict[str, Any]:
    """Of one epoch: there are no later ones."""
    figures = {
        "first_epoch_bytes": 2_500_000_000,
        "later_epoch_bytes": None,
        "bytes": 2_500_000_000,
        "requests": 12345,
        "dollars": 0.225,
        "seconds": 25.0,
    }
    return {
        "samples": 1000,
        "shards": 10,
        "bytes": 2_500_000_000,
        "ratio": 0.3,
        "warmup_epochs": 0,
        "epochs": 1,
        "cache_limit": 0,
        "nodes": 2,
        "modes": dict.fromkeys(MODE_NAMES, figures),
        "bytes_by_epoch": {key: [2_500_000_000] for key in MODE_NAMES},
        "share_by_ratio": {"ratio": [0.5, 1.0], **{key: [0.6, 1.0] for key in MODE_NAMES}},
        "notes": ["Names like [bold] & <b> are text."],
    }


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, wording.UNKNOWN),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234567, "1.23 MB"),
        (999_499_999, "999 MB"),
        (999_999_999, "1 GB"),
        (65.54e9, "65.5 GB"),
        (4.61e14, "461 TB"),
        (1.2345e19, "12,345 PB"),
    ],
)
def test_sizes(amount: float | None, text: str) -> None:
    assert wording.size(amount) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, wording.UNKNOWN), (0, "$0.00"), (0.225, "$0.23"), (1234.4, "$1,234")],
)
def test_dollars(amount: float | None, text: str) -> None:
    assert wording.dollars(amount) == text


@pytest.mark.parametrize("width", [40, 200])
def test_nothing_is_cut_in_a_terminal(plan: dict[str, Any], width: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    print_plan(plan, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for expected in (*MODE_NAMES.values(), "2.5 GB", "12,345", "25 s", "[bold] & <b>"):
        assert expected in text
    assert "2 nodes, each without a cache" in text


def test_what_the_cache_is_called(plan: dict[str, Any]) -> None:
    assert "with room for everything" in describe({**plan, "cache_limit": None})
    assert describe({**plan, "cache_limit": 2e9, "nodes": 1}).endswith(
        "one node with 2 GB of cache."
    )


def test_a_page_of_one_epoch(plan: dict[str, Any], tmp_path: Path) -> None:
    page = ParsedPage(write_plan(plan, tmp_path / "plan.html"))
    assert page.texts["li"] == plan["notes"]
    assert len(page.texts["tr"]) == 1 + len(MODE_NAMES)
    with pytest.raises(ValueError, match=r"plan\.pdf is not accepted"):
        write_plan(plan, tmp_path / "plan.pdf")
