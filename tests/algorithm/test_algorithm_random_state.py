# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The global generators come out of a checkpoint as they went in; torch draws no seed twice."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from composer_dataagent.random_state import (
    ResumedRandomness,
    put_random_state,
    take_random_state,
)


def draws() -> list[float]:
    """Something of every generator; of normals, which are made in pairs, an odd number."""
    return [
        random.gauss(0, 1),
        *np.random.normal(size=3).tolist(),
        float(np.random.rand()),
        *torch.randn(3).tolist(),
        random.random(),
    ]


def test_what_was_taken_is_put_back_through_a_file() -> None:
    draws()
    file = io.BytesIO()
    torch.save(take_random_state(), file)
    expected = draws()
    draws()
    file.seek(0)
    put_random_state(torch.load(file, weights_only=True))
    assert draws() == expected


@pytest.mark.parametrize("saved", [True, False])
def test_the_first_iteration_draws_nothing(saved: bool) -> None:
    loader: Any = DataLoader(list(range(6)), batch_size=2)  # type: ignore[arg-type]
    state = take_random_state()
    expected = draws()
    if not saved:
        put_random_state(state)
    randomness = ResumedRandomness(loader, state if saved else None)
    randomness.before_batch()
    batches = iter(loader)
    next(batches)
    randomness.before_batch()
    assert loader.generator is None
    next(batches)
    assert draws() == expected
    before = torch.get_rng_state()
    randomness.before_batch()
    iter(loader)
    assert not torch.get_rng_state().equal(before), "a new epoch draws as always"


def test_a_generator_of_the_users_own_stays() -> None:
    own = torch.Generator()
    loader: Any = DataLoader([1, 2], generator=own)  # type: ignore[arg-type]
    randomness = ResumedRandomness(loader, None)
    for _ in range(2):
        randomness.before_batch()
        assert loader.generator is own
    randomness.end()
    assert loader.generator is own


def test_a_run_that_ends_after_one_batch_gives_the_loader_back() -> None:
    loader: Any = DataLoader([1, 2])  # type: ignore[arg-type]
    randomness = ResumedRandomness(loader, None)
    randomness.before_batch()
    randomness.end()
    assert loader.generator is None
