# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Two real ranks: together they serve the selection, in batches of the same number and size."""

from __future__ import annotations

import pytest
from mds_samples import BATCH, assert_exactly_once, draw
from streaming_ranks import run_ranks

RANKS = 2


@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_serve_the_selection_together(shards: str, workers: int) -> None:
    selections = [draw(41, 0), draw(8, 1), draw(96, 2)]
    first, second = run_ranks(shards, ranks=RANKS, workers=workers, selections=selections)
    for selected, (length, batches), (other_length, others) in zip(
        selections, first, second, strict=True
    ):
        assert_exactly_once(batches + others, selected, padding=len(selected) % RANKS)
        assert [len(batch) for batch in batches] == [len(batch) for batch in others]
        per_rank = -(-len(selected) // RANKS)
        assert length == other_length == len(batches) == -(-per_rank // BATCH)


@pytest.mark.parametrize("others", [range(30, 70), range(60), range(30)])
def test_a_rank_that_selected_other_samples_says_so(shards: str, others: range) -> None:
    results = run_ranks(shards, ranks=RANKS, workers=0, selections=[{0: range(40), 1: others}])
    assert isinstance(results[0], list)
    assert results[1].startswith("SelectionCorruptError: The leading rank")
    assert "same samples on every rank" in results[1]


@pytest.mark.parametrize("without", [0, 1])
def test_a_rank_that_selects_nothing_at_all(shards: str, without: int) -> None:
    selected = {0: range(40), 1: range(40)}
    results = run_ranks(shards, ranks=RANKS, workers=0, selections=[{**selected, without: None}])
    assert results[1 - without].startswith(f"RankMissingError: Rank {without} of this node")
