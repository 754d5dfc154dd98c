# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A plain PyTorch loop that goes on with another number of ranks serves the same batches."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from grid_marks import grid
from mds_samples import draw
from streaming_ranks import run_part

GLOBAL_BATCH = 8
SELECTIONS = [draw(60, 0), draw(43, 1), draw(33, 2)]
STOPS = {"inside": (1, 2), "after the last batch": (1, 6), "epoch end": (1, -1)}
# Every stop where ranks become fewer, and one of them each for workers and where they become more.
ALWAYS = [(4, 2, 0, stop) for stop in STOPS]
ALWAYS += [(2, 1, 2, "inside"), (1, 2, 0, "after the last batch")]

Part = Callable[..., tuple[list[list[list[int]]], dict[str, Any]]]


@pytest.fixture(scope="module")
def part(shards: str) -> Part:
    return functools.partial(run_part, shards, global_batch=GLOBAL_BATCH, selections=SELECTIONS)


@pytest.fixture(scope="module")
def uninterrupted(part: Part) -> Callable[[int, int], list[list[list[int]]]]:
    return functools.cache(lambda ranks, workers: part(ranks=ranks, workers=workers)[0])


@pytest.mark.parametrize(
    ("before", "after", "workers", "stop"),
    grid(((*run, stop) for run in [(4, 2, 0), (2, 1, 2), (1, 2, 0)] for stop in STOPS), ALWAYS),
)
def test_another_number_of_ranks_goes_on_with_the_same_batches(
    part: Part, uninterrupted: Any, before: int, after: int, workers: int, stop: str
) -> None:
    expected = uninterrupted(before, workers)
    done, state = part(ranks=before, workers=workers, stop=STOPS[stop])
    rest, _ = part(ranks=after, workers=workers, state=state)
    served = done + rest
    if stop != "epoch end":  # the epoch that was left unfinished is finished first
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
