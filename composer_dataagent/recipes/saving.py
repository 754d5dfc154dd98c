# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""When a run saves a checkpoint, if its recipe does not say it."""

from __future__ import annotations

from collections.abc import Callable

from composer.core import Event, State, Time, Timestamp, TimeUnit

# Of a run: what a kill costs at most, where an epoch is more.
PARTS = 10


def default_save_interval(
    duration: Time, selects_inside_epochs: bool
) -> str | Callable[[State, Event], bool]:
    """At the end of each epoch, and of each tenth of the run where epochs may be few and long.

    They may be where the run's duration is not in epochs.

    Args:
        duration (Time): Of the run.
        selects_inside_epochs (bool): As one does that has long ones.

    Returns:
        str | Callable[[State, Event], bool]: As Composer's ``save_interval``.
    """
    many = PARTS if selects_inside_epochs else 2
    in_epochs = duration.unit == TimeUnit.EPOCH
    return "1ep" if in_epochs and duration.value >= many else is_part_done


def is_part_done(state: State, event: Event) -> bool:
    """Whether an epoch or a tenth of the run has just ended.

    Not Composer's ``0.1dur``: that counts whole epochs where the run's duration is in epochs.
    """
    if event == Event.EPOCH_CHECKPOINT:
        return True
    if event != Event.BATCH_CHECKPOINT:
        return False
    if int(state.timestamp.batch_in_epoch) == int(state.dataloader_len or 0):
        return False  # the epoch's end follows
    now, before = state.timestamp, state.previous_timestamp
    return before is not None and _parts_done(now, state) > _parts_done(before, state)


def _parts_done(at: Timestamp, state: State) -> int:
    end = state.max_duration
    assert end is not None, "a recipe has one"
    done = float(at.get(end.unit).value)
    if end.unit == TimeUnit.EPOCH and state.dataloader_len is not None:
        done += int(at.batch_in_epoch) / int(state.dataloader_len)
    return int(PARTS * done / float(end.value))
