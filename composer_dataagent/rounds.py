# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Rounds: an epoch in parts, between which the agent selects anew."""

from __future__ import annotations

import math
import re

from composer.core import State, TimeUnit

_ACCEPTED = (
    "a part of an epoch, such as '0.1ep', or a number of batches of the full data, such as "
    "'2000ba'; or None to select between epochs"
)


def rounds_per_epoch(interval: str | None, full_batches: int | None = None) -> int:
    """Into how many rounds an epoch is cut.

    Args:
        interval (str | None): A part of an epoch (``"0.1ep"``, at most 1), or a number of batches
            of the full data (``"2000ba"``). ``None``: one round.
        full_batches (int | None): Batches in an epoch that serves every sample. Default: not known
            yet; the interval is only looked at.

    Returns:
        int: At least 1: the number of equal rounds that comes nearest to it.

    Raises:
        ValueError: The interval is none of these, or shorter than a batch.
    """
    if interval is None:
        return 1
    amount, unit = _parse(interval)
    if full_batches is None:
        return 1
    rounds = 1 / amount if unit == TimeUnit.EPOCH else full_batches / amount
    if rounds > max(full_batches, 1):
        raise ValueError(
            f"DataAgent: interval={interval!r} would cut an epoch of {full_batches} batches into "
            f"{rounds:.3g} rounds, of less than a batch each: use a longer interval"
        )
    return max(1, math.floor(rounds + 0.5))


def _parse(interval: object) -> tuple[float, TimeUnit]:
    found = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(ep|ba)\s*", str(interval))
    try:
        amount = float(found[1]) if found else math.nan
    except ValueError:
        amount = math.nan
    unit = TimeUnit(found[2]) if found else TimeUnit.EPOCH
    in_range = 0 < amount <= 1 if unit == TimeUnit.EPOCH else amount >= 1
    if not isinstance(interval, str) or not in_range or not math.isfinite(amount):
        raise ValueError(
            f"DataAgent: interval={interval!r} is not accepted; it must be {_ACCEPTED}"
        )
    return amount, unit


def share_of_training(state: State, part_of_epoch: float, batches: int, samples: int) -> float:
    """Which share of a run a round is, in [0, 1], as far as that can be told before it comes.

    Args:
        state (State): Composer's, with its ``max_duration``.
        part_of_epoch (float): In (0, 1].
        batches (int): That it trains on.
        samples (int): That it trains on.

    Returns:
        float: 0 where the run's end is given in another unit.
    """
    duration = state.max_duration
    if duration is None:
        return 0.0
    done = {
        TimeUnit.EPOCH: part_of_epoch,
        TimeUnit.BATCH: batches,
        TimeUnit.SAMPLE: samples,
    }.get(duration.unit, 0)
    return min(float(done) / float(duration.value), 1.0)
