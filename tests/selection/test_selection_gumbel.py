# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Ranks, top-k, and the law that Gumbel noise makes of them."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare, rankdata

from composer_dataagent import agent
from composer_dataagent.selection import gumbel_keys, rank01, sketch
from composer_dataagent.selection.gumbel import gumbel, top_k


def gumbel_top_k(score: NDArray, k: int, *args: Any, **kwargs: Any) -> NDArray[np.int64]:
    return top_k(gumbel_keys(score, *args, **kwargs), k)


few_values = st.lists(st.integers(-5, 5), min_size=1, max_size=60)


@given(values=few_values)
def test_ranks_are_mean_ranks_and_both_twins_agree(values: list[int]) -> None:
    array = np.array(values, np.float32)
    ranks = rank01(array)
    if len(values) > 1:
        expected = (rankdata(array, method="average") - 1) / (len(array) - 1)
        np.testing.assert_allclose(ranks, expected, atol=1e-12)
    assert ranks.dtype == np.float64
    assert ranks.mean() == pytest.approx(0.5)
    np.testing.assert_allclose(agent.rank01(torch.from_numpy(array)).numpy(), ranks, atol=1e-6)


def test_ranks_of_one_of_none_and_of_what_is_not_known() -> None:
    assert rank01(np.array([3.0])).tolist() == rank01(np.array([np.nan])).tolist() == [0.5]
    assert rank01(np.empty(0)).shape == (0,)
    assert rank01(np.array([2.0, np.nan, 1.0, np.nan, np.inf])).tolist() == [
        0.75,
        0.125,
        0.5,
        0.125,
        1.0,
    ]
    assert rank01(np.arange(5)).tolist() == [0, 0.25, 0.5, 0.75, 1]  # integers have no NaN


@given(values=few_values, data=st.data())
def test_top_k_are_the_largest_and_ties_go_to_the_smaller_index(
    values: list[int], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(values)))
    array = np.array(values, float)
    expected = sorted(sorted(range(len(values)), key=lambda i: (-values[i], i))[:k])
    assert top_k(array, k).tolist() == expected
    greedy = gumbel_top_k(array, k, np.random.default_rng(0), explore=None)
    assert greedy.tolist() == expected


def test_greedy_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    gumbel_top_k(np.arange(9.0), 3, rng, explore=None)
    assert rng.random() == np.random.default_rng(0).random()


@given(values=few_values, data=st.data(), explore=st.floats(0, 50))
def test_k_sorted_unique_indices(values: list[int], data: st.DataObject, explore: float) -> None:
    k = data.draw(st.integers(1, len(values)))
    ids = gumbel_top_k(np.array(values, float), k, np.random.default_rng(k), explore)
    assert len(ids) == k and (np.diff(ids) > 0).all()
    assert ids[0] >= 0 and ids[-1] < len(values)


class ExtremeDraws(np.random.Generator):
    """Alternates between the smallest and the largest number that ``random`` can give."""

    def random(self, size: int) -> NDArray[np.float64]:  # type: ignore[override]
        draws = np.zeros(size)
        draws[1::2] = 1 - 2.0**-53
        return draws


def test_noise_is_finite_at_the_ends_of_the_unit_interval() -> None:
    rng = ExtremeDraws(np.random.PCG64(0))
    noise = gumbel(4, rng)
    assert np.isfinite(noise).all()
    assert (noise[1::2] > 30).all() and (noise[::2] < -6).all()
    # Infinite keys would all be ties, and ranks would not count.
    assert gumbel_top_k(np.array([0.0, 1.0, 3.0, 2.0]), 3, rng).tolist() == [1, 2, 3]


def test_noise_is_standard_gumbel() -> None:
    noise = gumbel(200_000, np.random.default_rng(0))
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.01)
    assert noise.std() == pytest.approx(np.pi / np.sqrt(6), abs=0.01)


def plackett_luce(weights: NDArray, k: int) -> dict[tuple[int, ...], float]:
    """Probability of each set when ``k`` are drawn by weight, one after another."""
    law = {}
    for chosen in combinations(range(len(weights)), k):
        law[chosen] = 0.0
        for order in permutations(chosen):
            left, probability = weights.sum(), 1.0
            for i in order:
                probability *= weights[i] / left
                left -= weights[i]
            law[chosen] += probability
    return law


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize(
    ("score", "explore"),
    [
        ([3.0, 10.0, -1.0, 5.0, 4.0], 2.0),
        ([1.0, 1.0, 1.0, 0.0, 7.0], 4.0),  # ties weigh the same
        ([3.0, 10.0, -1.0, 5.0, 4.0], 0.0),  # uniform
    ],
    ids=["ranks", "ties", "uniform"],
)
def test_frequencies_follow_the_plackett_luce_law(
    score: list[float], explore: float, k: int
) -> None:
    rng, draws = np.random.default_rng(11), 20_000
    given = np.array(score)
    counts = Counter(tuple(gumbel_top_k(given, k, rng, explore).tolist()) for _ in range(draws))
    assert given.tolist() == score  # what was given is left as it was
    law = plackett_luce(np.exp(explore * (rankdata(score) - 1) / 4), k)
    observed = [counts[chosen] for chosen in law]
    assert sum(observed) == draws
    assert chisquare(observed, [draws * p for p in law.values()]).pvalue > 1e-3


# ---------------------------------------------------------------------- millions of samples


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a few thousand were millions, in several chunks."""
    monkeypatch.setattr("composer_dataagent.selection.gumbel.SKETCH_FROM", 1)
    monkeypatch.setattr("composer_dataagent.selection.sketch.CHUNK", 700)


def scores_of_all_kinds() -> dict[str, NDArray]:
    rng = np.random.default_rng(3)
    uniform = rng.random(3000).astype(np.float32)
    outlier = uniform.copy()
    outlier[7] = 1e6
    unknown = uniform.copy()
    unknown[::5] = np.nan
    infinite = uniform.copy()
    infinite[::7], infinite[3] = -np.inf, np.inf
    return {
        "uniform": uniform,
        "narrow": 0.99 + uniform / 1e3,  # entropies of a model that has learned nothing yet
        "heavy tail": np.exp(8 * uniform),
        "outlier": outlier,
        "unknown": unknown,
        "infinite": infinite,
        "ties": np.round(uniform * 4),
        "equal": np.ones(3000, np.float32),
        "double": uniform.astype(np.float64) - 0.5,
    }


@pytest.mark.parametrize("kind", scores_of_all_kinds())
def test_a_histogram_ranks_as_a_sort_does(kind: str) -> None:
    values = scores_of_all_kinds()[kind]
    found = sketch.Sketch(values)
    ranks = np.concatenate([found.rank01()[bins] for _, bins in found.chunks()])
    finite = values[np.isfinite(values)]
    low, high = finite.min(), finite.max()
    expected = rank01(np.nan_to_num(values, nan=low, neginf=low, posinf=high))
    np.testing.assert_allclose(ranks, expected, atol=0.004)


@pytest.mark.usefixtures("sketched")
@given(values=few_values, data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_top_k_of_millions_is_exact(values: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    array = np.array(values, np.float32)
    expected = sorted(sorted(range(len(values)), key=lambda i: (-values[i], i))[:k])
    assert top_k(array, k).tolist() == expected


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("k", [1, 1500, 2999])
def test_top_k_goes_through_all_chunks(k: int) -> None:
    key = np.random.default_rng(k).permutation(3000).astype(np.float32) // 3
    assert top_k(key, k).tolist() == sorted(np.argsort(-key, kind="stable")[:k].tolist())


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("kind", ["uniform", "unknown", "ties"])
def test_millions_are_drawn_by_the_same_law(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    score = scores_of_all_kinds()[kind]
    draw = partial(gumbel_top_k, score, 1000)
    share = {}
    for name, threshold in {"sketch": 1, "sort": 1 << 20}.items():
        monkeypatch.setattr("composer_dataagent.selection.gumbel.SKETCH_FROM", threshold)
        drawn = np.concatenate([draw(np.random.default_rng(i)) for i in range(50)])
        counts = np.bincount(drawn, minlength=3000)
        order = np.argsort(rank01(score), kind="stable")
        share[name] = [part.sum() / counts.sum() for part in np.array_split(counts[order], 10)]
    np.testing.assert_allclose(share["sketch"], share["sort"], atol=0.01)
