# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Algorithms that cannot run beside DataAgent as they are set, refused before the first step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import ceil

from composer.algorithms import (
    Alibi,
    GhostBatchNorm,
    GyroDropout,
    SelectiveBackprop,
    SeqLengthWarmup,
)
from composer.core import Algorithm, State, TimeUnit
from torch.utils.data import DataLoader

from composer_dataagent.signals import find_mixer


def refuse_companions(algorithms: Sequence[Algorithm]) -> None:
    """Refuse algorithms after which a row of the batch is no longer the sample that was served.

    Args:
        algorithms (Sequence[Algorithm]): All of the run.

    Raises:
        ValueError: There is such an algorithm; the message names it, the reason and the way out.
        RuntimeError: This version of Composer does not say how MixUp or CutMix mix.
    """
    for algorithm in algorithms:
        if isinstance(algorithm, SelectiveBackprop):
            raise ValueError(
                "DataAgent cannot run together with SelectiveBackprop, which drops samples from "
                "the batch without telling which: remove one of the two"
            )
        if isinstance(algorithm, SeqLengthWarmup) and not algorithm.truncate:
            raise ValueError(
                "DataAgent cannot run together with SeqLengthWarmup(truncate=False), which cuts "
                "the batch into other rows, so that a row is no longer a sample: use truncate=True"
            )
        if isinstance(algorithm, Alibi) and algorithm.train_sequence_length_scaling != 1:
            raise ValueError(
                "DataAgent cannot run together with Alibi(train_sequence_length_scaling="
                f"{algorithm.train_sequence_length_scaling}), which cuts the batch into other "
                "rows, so that a row is no longer a sample: use train_sequence_length_scaling=1"
            )
    find_mixer(algorithms)


def refuse_batches(
    state: State,
    round_sizes: Collection[int] | None,
    rounds: int,
    loader: DataLoader,
    world_size: int,
) -> None:
    """Refuse algorithms that would stop the run in a pruned epoch, for it is short and ends ragged.

    Args:
        state (State): Composer's state at FIT_START.
        round_sizes (Collection[int] | None): Samples that rounds of the run have over all ranks;
            None if that is not known.
        rounds (int): In how many of them an epoch comes.
        loader (DataLoader): Of the training data.
        world_size (int): Number of ranks.

    Raises:
        ValueError: There is such an algorithm; the message names it, the reason and the way out.
    """
    assert loader.batch_size is not None, "refused by streaming.attach"
    microbatch = int(state.device_train_microbatch_size or loader.batch_size)
    last_rows = {1}  # any number, for all that is known
    if loader.drop_last:
        last_rows = set()
    elif round_sizes is not None:
        of_rank = [ceil(size / world_size) % loader.batch_size for size in round_sizes]
        last_rows = {rows % microbatch or microbatch for rows in of_rank if rows > 0}
    for algorithm in state.algorithms:
        if isinstance(algorithm, GyroDropout):
            fits = all(rows % algorithm.tau == 0 for rows in last_rows)
            _require_rows(fits, algorithm, f"a multiple of tau={algorithm.tau}")
        elif isinstance(algorithm, GhostBatchNorm):
            least = algorithm.ghost_batch_size
            fits = all(rows >= least for rows in last_rows)
            _require_rows(fits, algorithm, f"at least ghost_batch_size={least}")
        elif isinstance(algorithm, SeqLengthWarmup) and round_sizes is not None:
            batches = min(round_sizes) / (loader.batch_size * world_size)
            of_round = int(batches) if loader.drop_last else ceil(batches)
            _require_steps(algorithm, state, rounds * of_round)


def _require_rows(fits: bool, algorithm: Algorithm, needed: str) -> None:
    if not fits:
        raise ValueError(
            f"{type(algorithm).__name__} needs {needed} samples in every batch, but an epoch that "
            "is no multiple of the batch size ends with fewer: use drop_last=True for the "
            "DataLoader"
        )


def _require_steps(algorithm: SeqLengthWarmup, state: State, batches: int) -> None:
    """As Composer counts them, `algorithms/seq_length_warmup/seq_length_warmup.py`."""
    if state.max_duration is None or state.max_duration.unit != TimeUnit.EPOCH:
        return
    steps = int(batches * state.max_duration.value * algorithm.duration)
    stages = (algorithm.max_seq_length - algorithm.min_seq_length) // algorithm.step_size
    if steps < stages:
        raise ValueError(
            f"SeqLengthWarmup has {stages} stages, but counted in pruned epochs of {batches} "
            f"batches its warm-up has {steps} steps: use a larger step_size or duration"
        )
