# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A plain PyTorch loop that goes on with another number of ranks serves the same batches."""

from __future__ import annotations

import pytest
from mds_samples import draw
from streaming_ranks import run_part

GLOBAL_BATCH = 8
SELECTIONS = [draw(60, 0), draw(43, 1), draw(33, 2)]


@pytest.mark.parametrize(("before", "after", "workers"), [(4, 2, 0), (2, 1, 2), (1, 2, 0)])
@pytest.mark.parametrize(
    "stop", [(1, 2), (1, 6), (1, -1)], ids=["inside", "after the last batch", "epoch end"]
)
def test_another_number_of_ranks_goes_on_with_the_same_batches(
    shards: str, before: int, after: int, workers: int, stop: tuple[int, int]
) -> None:
    run = {"workers": workers, "global_batch": GLOBAL_BATCH, "selections": SELECTIONS}
    expected, _ = run_part(shards, ranks=before, **run)
    done, state = run_part(shards, ranks=before, stop=stop, **run)
    rest, _ = run_part(shards, ranks=after, state=state, **run)
    served = done + rest
    if stop[1] > 0:  # the epoch that was left unfinished is finished first
        served = [done[0], done[1] + rest[0], *rest[1:]]
    assert [first_served(epoch) for epoch in served] == [first_served(epoch) for epoch in expected]


def first_served(epoch: list[list[int]]) -> list[set[int]]:
    """Of each step, without what is repeated so that ranks are equal: that goes with their number.

    All ranks' batches of a step, whose order goes with the number of ranks, too.
    """
    before: set[int] = set()
    steps = []
    for step in epoch:
        steps.append(set(step) - before)
        before |= set(step)
    return steps
