# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Noise that follows from seed, step and sample id alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from composer_dataagent.agent import noise, sample_keys

MANY = 100_000


def keys(ids: Tensor, seed: int = 0, step: int = 0) -> Tensor:
    return sample_keys(seed, torch.full_like(ids, step), ids)


def splitmix64(key: int, count: int) -> list[int]:
    """As published, in Python's own integers."""
    results = []
    for _ in range(count):
        key = (key + 0x9E3779B97F4A7C15) % 2**64
        z = key
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        results.append(z ^ (z >> 31))
    return results


@given(st.integers(-(2**63), 2**63 - 1))
def test_uniforms_are_those_of_splitmix64(key: int) -> None:
    expected = [((z >> 41) + 0.5) / 2**23 for z in splitmix64(key % 2**64, 5)]
    assert noise.uniforms(torch.tensor([key]), 5).tolist() == [expected]


def test_uniforms_are_uniform_and_inside() -> None:
    draws = noise.uniforms(keys(torch.arange(MANY)), 3).numpy()
    assert draws.min() > 0 and draws.max() < 1
    for column in draws.T:
        assert stats.kstest(column, "uniform").pvalue > 0.001
    correlation = np.corrcoef(draws.T)
    assert np.abs(correlation - np.eye(3)).max() < 0.02


@pytest.mark.parametrize(
    "others", [{"seed": 1}, {"step": 1}, {"seed": 2**70 + 5}, {"step": 2**40}], ids=str
)
def test_seeds_and_steps_are_independent(others: dict[str, int]) -> None:
    ids = torch.arange(MANY)
    one, other = (noise.uniforms(keys(ids, **k), 1).flatten() for k in ({}, others))
    assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1].item()) < 0.02


def test_neither_seed_nor_step_nor_id_stand_for_each_other() -> None:
    ids = torch.tensor([3])
    assert keys(ids, seed=5, step=7) != keys(ids, seed=7, step=5)
    assert keys(ids, step=7) != keys(torch.tensor([7]), step=3)
    assert len(keys(torch.arange(MANY)).unique()) == MANY


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1.7, 1.7), (30, 2), (1, 400), (1000, 1000)])
def test_beta_follows_its_distribution(a: float, b: float) -> None:
    ones = torch.ones(MANY)
    draws = noise.beta(a * ones, b * ones, keys(torch.arange(MANY)))
    assert stats.kstest(draws.numpy(), "beta", (a, b)).pvalue > 0.001


def test_a_draw_does_not_depend_on_its_company() -> None:
    ids = torch.arange(500)
    alpha, beta = 1 + torch.rand(500), 1 + 9 * torch.rand(500)
    together = noise.beta(alpha, beta, keys(ids))
    order = torch.randperm(500)
    apart = torch.cat(
        [noise.beta(alpha[part], beta[part], keys(ids[part])) for part in order.split(7)]
    )
    # Vectorised kernels round the ends of a tensor in another way than its middle.
    torch.testing.assert_close(apart, together[order], rtol=1e-5, atol=1e-7)
