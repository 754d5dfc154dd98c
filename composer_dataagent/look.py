# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A look at samples that are not trained on: forward passes alone, which leave no trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from composer.core import State, get_precision_context
from numpy.typing import NDArray
from torch import Tensor

from composer_dataagent.random_state import put_random_state, take_random_state
from composer_dataagent.signals import BatchReader, Signals


def look(
    state: State, reader: BatchReader, batches: Iterable[tuple[NDArray[np.int64], Any]]
) -> Iterator[tuple[Tensor, Signals, Tensor | None]]:
    """Read signals and features of samples as the model is now, in evaluation mode.

    Weights, buffers, modes and random generators are afterwards what they were before. To be called
    between two batches, on all ranks with equally many batches.

    Args:
        state (State): Composer's.
        reader (BatchReader): Reads what the model gives; it must not be inside a batch.
        batches (Iterable): Ids ``[B]`` and the batch that the user's loader makes of them.

    Yields:
        tuple[Tensor, Signals, Tensor | None]: Of each batch: int64 ids ``[B]`` on the host, signals
        ``[B]`` and features ``[B, F]``, if any are read.
    """
    with _untouched(state), torch.no_grad():
        for ids, batch in batches:
            on_device = state.device.batch_to_device(batch)
            reader.begin_batch()
            reader.before_forward()
            with get_precision_context(state.precision, state.precision_config):
                outputs = state.model(on_device)
            reader.after_forward(outputs, on_device)
            read = reader.end_pass(len(ids))
            assert read is not None, "the batch has just begun"
            yield torch.from_numpy(ids), *read


@contextmanager
def _untouched(state: State) -> Iterator[None]:
    """The model in evaluation mode; then its modules' modes and the generators as they were."""
    modes = {module: module.training for module in state.model.modules()}
    randomness = take_random_state()
    state.model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        put_random_state(randomness)


def share_of_rank(ids: NDArray[np.int64], rank: int, ranks: int) -> NDArray[np.int64]:
    """What one rank looks at: equally many on all, for which the first come twice.

    Args:
        ids (NDArray[np.int64]): ``[M]``, the same on all ranks.
        rank (int): Which.
        ranks (int): How many.
    """
    each = -(-len(ids) // ranks)
    return np.resize(ids, each * ranks)[rank * each : (rank + 1) * each]
