# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules that depend on the share of training done, not on epochs' lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from composer.core import State, Time, Timestamp, TimeUnit
from torch.optim.lr_scheduler import LRScheduler


def follow_training_progress(
    state: State, full_batches: int, num_samples: int, batch_size: int
) -> None:
    """Let every scheduler of a run see the full run's time, at the same share of training.

    Composer converts epochs with the *current* number of batches per epoch and compares the result
    with all batches so far, so that a schedule jumps when epochs change length; a native torch
    scheduler that is stepped every batch never finishes when epochs get shorter. Here, position
    ``b`` of ``L`` batches in a pruned epoch counts as position ``b / L`` of a full one. Monotone
    schedules stay monotone and end at their end value, in ``ep``, ``ba``, ``sp``, ``tok`` and
    ``dur`` alike; nothing changes while nothing is pruned. A run whose ``max_duration`` is not in
    epochs is measured in its own batches, ``full_batches`` of which count as an epoch.

    Works on the scheduler objects in place and can be called again.

    Args:
        state (State): Composer's state at FIT_START; its schedulers are changed.
        full_batches (int): Batches in an epoch that serves every sample.
        num_samples (int): Samples in an epoch that serves every sample.
        batch_size (int): Samples in a full batch over all ranks.
    """

    def samples_in(batches: int) -> int:
        return min(batches * batch_size, num_samples)

    for scheduler in state.schedulers:
        cls = type(scheduler)
        base = getattr(cls, "follows", cls)
        scheduler.__class__ = _following(base, state, full_batches, samples_in)


def _following(
    cls: type[LRScheduler], state: State, full_batches: int, samples_in: Callable[[int], int]
) -> type[LRScheduler]:
    """A subclass whose steps happen in the full run's time.

    What it needs is in this closure: everything in a scheduler's ``__dict__`` enters checkpoints.
    """

    class Following(cls):  # type: ignore[valid-type, misc]
        follows = cls

        def step(self, *args: Any, **kwargs: Any) -> None:
            now, steps = _full_run_time(state, full_batches, samples_in)
            with _as_if(state, now, full_batches):
                # A native scheduler counts its steps: let it count those of the full run.
                for _ in range(steps):
                    super().step(*args, **kwargs)

    # Checkpoints find a scheduler by its class's name.
    Following.__name__, Following.__qualname__ = cls.__name__, cls.__qualname__
    Following.__module__, Following.__doc__ = cls.__module__, cls.__doc__
    return Following


def _full_run_time(
    state: State, full_batches: int, samples_in: Callable[[int], int]
) -> tuple[Timestamp, int]:
    """Where a full run is when this one steps its schedulers, and how many batches that is on.

    Composer steps schedulers before it counts the batch that was just trained, so a full run's
    schedule sees times 0 to T - 1. Batch ``b`` of ``L`` is mapped to the last batch that the share
    ``(b + 1) / L`` of a full epoch completes: the last one of a pruned epoch to the last of a full.
    """
    now = state.timestamp
    assert state.dataloader_len is not None and state.max_duration is not None
    length, position = int(state.dataloader_len), int(now.batch_in_epoch)
    never_pruned = int(now.batch) == int(now.epoch) * full_batches + position
    if length == full_batches and never_pruned:
        return now, 1
    if state.max_duration.unit != TimeUnit.EPOCH:
        epoch, in_epoch = divmod(int(now.batch), full_batches)
        return now.copy(epoch=epoch, batch_in_epoch=in_epoch), 1
    if position >= length:  # stepped once an epoch, when all its batches are counted
        in_epoch, steps = full_batches, 1
    else:
        completed = (position + 1) * full_batches // length
        in_epoch, steps = completed - 1, completed - position * full_batches // length
    batch = int(now.epoch) * full_batches + in_epoch
    full_run = now.copy(
        batch=batch,
        batch_in_epoch=in_epoch,
        sample=int(now.epoch) * samples_in(full_batches) + samples_in(in_epoch),
        sample_in_epoch=samples_in(in_epoch),
        token=int(now.token) * batch // max(int(now.batch), 1),
        token_in_epoch=int(now.token_in_epoch) * in_epoch // max(position, 1),
    )
    return full_run, steps


@contextmanager
def _as_if(state: State, now: Timestamp, full_batches: int) -> Iterator[None]:
    timestamp, length = state.timestamp, state._dataloader_len
    state.timestamp, state._dataloader_len = now, Time(full_batches, TimeUnit.BATCH)
    try:
        yield
    finally:
        state.timestamp, state._dataloader_len = timestamp, length
