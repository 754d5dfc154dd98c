# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every combination of ranks, nodes, workers, shuffles, batching, cache and last batches is exact.

A part in which any two values meet runs always; ``make test-grid`` runs all of it.
"""

from __future__ import annotations

import pytest
from grid_ranks import covering_part, failures_of, whole_grid

# Ranks, and nodes that they are on.
WORLDS = [(1, 1), (2, 1), (4, 1), (2, 2), (4, 2)]


@pytest.mark.parametrize(("ranks", "nodes"), WORLDS)
def test_covering_part(ranks: int, nodes: int) -> None:
    cells = covering_part()
    # In worlds that take long, another part each.
    share = slice(None) if ranks == 1 else slice(nodes - 1, None, 2)
    assert failures_of(cells[share], ranks=ranks, nodes=nodes) == []


@pytest.mark.grid
@pytest.mark.parametrize(("ranks", "nodes"), WORLDS)
def test_whole_grid(ranks: int, nodes: int) -> None:
    assert failures_of(whole_grid(), ranks=ranks, nodes=nodes) == []
