# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Rounds: an epoch in parts, between which the agent selects anew."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from composer.core import State, TimeUnit

from composer_dataagent.checks import is_number, require
from composer_dataagent.selection import MAX_EPOCH, RatioSchedule, size_for

Schedule = Callable[[int, float], float]

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


class Timetable:
    """Which round of which epoch it is, and how many samples each round trains on.

    Args:
        num_samples (int): ``N`` of the data set.
        per_epoch (int): Rounds in an epoch.
        global_batch_size (int): Samples in a step of all ranks, the least that a round trains on.
        schedule (Schedule): ``(round, progress) -> ratio``.

    Attributes:
        per_epoch (int): As given.
        number (int): The running (or, between two, the coming) round, counted over all epochs.
        began (int): How many samples the trainer counts in earlier rounds of the epoch.
        sizes (list[int]): How many samples each round of the epoch trains on.
    """

    def __init__(
        self, num_samples: int, per_epoch: int, global_batch_size: int, schedule: Schedule
    ) -> None:
        self.per_epoch = per_epoch
        self.number = 0
        self.began = 0
        self.sizes: list[int] = []
        self._parts = parts_of(num_samples, per_epoch)
        self._counts = [part.stop - part.start for part in self._parts]
        self._global_batch_size = global_batch_size
        self._schedule = schedule

    @property
    def epoch(self) -> int:
        """The epoch that the round belongs to."""
        return self.number // self.per_epoch

    @property
    def at(self) -> int:
        """The round's place in its epoch."""
        return self.number % self.per_epoch

    @property
    def is_last(self) -> bool:
        """Whether the epoch ends with this round."""
        return self.at == self.per_epoch - 1

    @property
    def part(self) -> slice:
        """What the round chooses from, of the epoch's samples in the order of a full epoch."""
        return self._parts[self.at]

    @property
    def count(self) -> int:
        """How many samples the round chooses from."""
        return self._counts[self.at]

    def epochs_done(self, part: float) -> float:
        """How many epochs are over once ``part`` of the running round is."""
        return self.epoch + (self.part.start + part * self.count) / self._parts[-1].stop

    def name(self, number: int | None = None) -> str:
        """As messages say it; default: the running one."""
        kind = "epoch" if self.per_epoch == 1 else "round"
        return f"{kind} {self.number if number is None else number}"

    def progress(self, state: State) -> float:
        """Share of training done, in [0, 1]; 0 where no end is known.

        Composer counts whole epochs where a run's end is one: here rounds count then.
        """
        end = state.max_duration
        if end is not None and end.unit == TimeUnit.EPOCH:
            done = (int(state.timestamp.epoch) + self.at / self.per_epoch) / float(end.value)
        else:
            elapsed = state.get_elapsed_duration()
            done = 0.0 if elapsed is None else float(elapsed)
        return min(done, 1.0)

    def sample_in_round(self, state: State) -> int:
        """How many samples the running round has served, over all ranks."""
        return int(state.timestamp.sample_in_epoch) - self.began

    def inside(self, state: State) -> bool:
        """Whether a round has begun and is not at its end."""
        return int(state.timestamp.batch_in_epoch) > 0 and self.sample_in_round(state) > 0

    def leave_epoch(self) -> None:
        """What is left of the epoch is not to come; the number goes on to the next one's first."""
        self.number = (self.epoch + 1) * self.per_epoch
        self.began = 0

    def begin_round(
        self,
        state: State,
        ratio_of: Callable[[float], float],
        batches_of: Callable[[int], int],
    ) -> int:
        """Begin the round that :attr:`number` says; the first of an epoch plans all of them.

        Args:
            state (State): Composer's, between two batches.
            ratio_of (Callable[[float], float]): What the selector makes of the schedule's ratio.
            batches_of (Callable[[int], int]): Batches that serve so many samples.

        Returns:
            int: How many samples it is to train on.

        Raises:
            ValueError: The schedule gives no ratio, or one that is less than a batch.
        """
        if self.at == 0:
            self.sizes = self._sizes_of_epoch(state, ratio_of, batches_of)
        self.began = int(state.timestamp.sample_in_epoch)
        return self.sizes[self.at]

    def _sizes_of_epoch(
        self,
        state: State,
        ratio_of: Callable[[float], float],
        batches_of: Callable[[int], int],
    ) -> list[int]:
        sizes, progress = [], self.progress(state)
        for number, count in enumerate(self._counts, self.number):
            ratio = self._schedule(number, min(progress, 1.0))
            require(
                is_number(ratio) and 0 < ratio <= 1,
                "schedule",
                ratio,
                f"a function that gives a ratio in (0, 1] for {self.name(number)}",
            )
            size = self._size_for(ratio_of(ratio), count)
            progress += _share_of_training(state, 1 / self.per_epoch, batches_of(size), size)
            sizes.append(size)
        return sizes

    def check_ratio(self) -> None:
        """Refuse, before training begins, a ratio that selects less than a batch.

        Raises:
            ValueError: It does. Of a schedule of the user's that is not known yet.
        """
        if isinstance(self._schedule, RatioSchedule):
            self._size_for(self._schedule.ratio, min(self._counts))

    def check_end(self, state: State) -> None:
        """Refuse, before training begins, more rounds (or epochs) than the ledger can count.

        Raises:
            ValueError: There would be.
        """
        end = state.max_duration
        if end is None or end.unit != TimeUnit.EPOCH:
            return
        rounds = int(end.value) * self.per_epoch
        if rounds > MAX_EPOCH + 1:
            longer = "a longer interval or " if self.per_epoch > 1 else ""
            raise ValueError(
                f"{int(end.value)} epochs of {self.per_epoch} rounds are {rounds}, and DataAgent "
                f"counts up to {MAX_EPOCH + 1}: use {longer}a shorter max_duration"
            )

    def _size_for(self, ratio: float, of: int) -> int:
        size, least = size_for(ratio, of), self._global_batch_size
        if size < least:
            larger = f"ratio >= {least / of:.3g} or " if least <= of else ""
            longer = "a longer interval or " if self.per_epoch > 1 else ""
            raise ValueError(
                f"ratio={ratio} of {of} samples selects {size}, fewer than one "
                f"global batch of {least}: use {longer}{larger}a smaller batch size"
            )
        return size

    def possible_sizes(self) -> set[int] | None:
        """How many samples rounds can have, as far as that is known before they come."""
        schedule = self._schedule
        if not isinstance(schedule, RatioSchedule):
            return None
        full = {1.0} if schedule.warmup_epochs or schedule.anneal else set()
        ratios = {schedule.ratio} | full
        return {size_for(ratio, count) for ratio in ratios for count in self._counts}

    def state_dict(self) -> dict[str, Any]:
        """Builtins only."""
        return {
            "round": self.number,
            "rounds_per_epoch": self.per_epoch,
            "round_began": self.began,
            "sizes": self.sizes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            ValueError: Epochs came in another number of rounds.
        """
        then = state.get("rounds_per_epoch", self.per_epoch)
        if then != self.per_epoch:
            raise ValueError(
                f"The checkpoint's epochs come in {then} rounds, those of this run in "
                f"{self.per_epoch}: an interval in batches follows the batch size. Resume with the "
                "same batch size and number of ranks, or give the interval as a part of an epoch "
                "('0.1ep')"
            )
        self.number, self.began = state["round"], state["round_began"]
        self.sizes = list(state["sizes"])


def parts_of(count: int, parts: int) -> list[slice]:
    """Where each of nearly equal parts of ``count`` things is."""
    return [slice(count * at // parts, count * (at + 1) // parts) for at in range(parts)]


def _share_of_training(state: State, part_of_epoch: float, batches: int, samples: int) -> float:
    """Which share of a run a round is; 0 where its end is in a unit that is not known before."""
    duration = state.max_duration
    if duration is None:
        return 0.0
    done = {
        TimeUnit.EPOCH: part_of_epoch,
        TimeUnit.BATCH: batches,
        TimeUnit.SAMPLE: samples,
    }.get(duration.unit, 0)
    return min(float(done) / float(duration.value), 1.0)
