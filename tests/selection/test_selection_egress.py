# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Scores against bytes: what the choice of shards keeps to, and every selector with it."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from ledgers import any_ledger, make_ledger
from numpy.typing import NDArray

from composer_dataagent.selection import (
    SELECTORS,
    Ledger,
    Selection,
    Selector,
    Units,
    build_selector,
    rank01,
    register_selector,
    selector_names,
    shard_units,
)
from composer_dataagent.selection.egress import choose
from composer_dataagent.selection.gumbel import top_k

SIZED = [name for name in selector_names() if name != "full"]
# Ranks are rounded to 16 bits.
ROUNDED = 1e-4

weights = st.sampled_from([0.01, 0.1, 0.3, 0.5, 1.0, 20.0]) | st.floats(0, 2)


@st.composite
def any_units(draw: st.DrawFn) -> Units:
    """A few shards, some without samples, of any cost; at least one sample in all."""
    samples = draw(st.lists(st.integers(0, 8), min_size=1, max_size=6).filter(any))
    cost = draw(arrays(np.float64, len(samples), elements=st.floats(0, 20)))
    sizes = np.array(samples, np.int64)
    return Units(sizes, draw(st.sampled_from([cost, sizes.astype(float)])))


def some_keys(data: st.DataObject, units: Units) -> NDArray:
    count = int(units.samples.sum())
    number = st.integers(-3, 3) | st.floats(-1e3, 1e3, width=32)
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    return data.draw(arrays(dtype, count, elements=number.map(float)), label="keys")


def price(units: Units, ids: NDArray[np.int64], weight: float) -> float:
    return weight * float(units.cost[units.count(ids) > 0].sum())


# ---------------------------------------------------------------------- the choice


@given(data=st.data(), units=any_units(), weight=weights)
def test_exactly_k_sorted_and_the_same_again(
    data: st.DataObject, units: Units, weight: float
) -> None:
    keys = some_keys(data, units)
    k = data.draw(st.integers(1, len(keys)), label="k")
    ids, again = (choose(keys.copy(), k, units, weight) for _ in range(2))
    assert ids.dtype == np.int64 and len(ids) == k
    assert (np.diff(ids) > 0).all() and ids[0] >= 0 and ids[-1] < len(keys)
    np.testing.assert_array_equal(ids, again)


@given(data=st.data(), units=any_units())
def test_without_a_price_it_is_top_k(data: st.DataObject, units: Units) -> None:
    keys = some_keys(data, units)
    k = data.draw(st.integers(1, len(keys)), label="k")
    expected = top_k(keys, k)
    np.testing.assert_array_equal(choose(keys.copy(), k, units, 0.0), expected)
    free = Units(units.samples, np.zeros(len(units.cost)))
    values = rank01(keys)
    of_free = choose(keys.copy(), k, free, 1.0)
    assert values[of_free].sum() == pytest.approx(values[expected].sum(), abs=k * ROUNDED)


@given(data=st.data(), units=any_units(), weight=weights)
def test_at_most_the_price_of_one_unit_is_missing_to_the_best_choice(
    data: st.DataObject, units: Units, weight: float
) -> None:
    keys = some_keys(data, units)
    k = data.draw(st.integers(1, len(keys)), label="k")
    values, of = rank01(keys), np.repeat(np.arange(len(units.samples)), units.samples)
    ids = choose(keys.copy(), k, units, weight)
    # Of open units, the largest keys are best: so all sets of open units are all there is to try.
    best = -np.inf
    for is_open in product([False, True], repeat=len(units.samples)):
        inside = np.sort(values[np.array(is_open)[of]])[::-1]
        if len(inside) >= k:
            cost = weight * float(units.cost[np.array(is_open)].sum())
            best = max(best, float(inside[:k].sum()) - cost)
    mine = float(values[ids].sum()) - price(units, ids, weight)
    assert mine >= best - weight * units.cost.max() - k * ROUNDED
    assert mine <= best + 1e-9 * (1 + abs(best))


@given(data=st.data(), units=any_units(), weight=weights)
def test_within_open_units_the_largest_keys_are_picked(
    data: st.DataObject, units: Units, weight: float
) -> None:
    keys = some_keys(data, units)
    k = data.draw(st.integers(1, len(keys)), label="k")
    ids = choose(keys.copy(), k, units, weight)
    of = np.repeat(np.arange(len(units.samples)), units.samples)
    rest = np.setdiff1d(np.flatnonzero(np.isin(of, of[ids])), ids)
    assert keys[rest].max(initial=-np.inf) <= keys[ids].min()


@given(data=st.data(), units=any_units(), first=weights, second=weights)
def test_a_higher_weight_costs_no_more_but_for_a_unit_that_is_not_full(
    data: st.DataObject, units: Units, first: float, second: float
) -> None:
    low, high = sorted([first, second])
    keys = some_keys(data, units)
    k = data.draw(st.integers(1, len(keys)), label="k")
    cheap, dear = (price(units, choose(keys.copy(), k, units, w), 1.0) for w in (high, low))
    # Adding up what is missing to the best choice at either weight.
    assert (high - low) * (cheap - dear) <= (high + low) * units.cost.max() + 2 * k * ROUNDED


@pytest.mark.parametrize(("shard", "apart"), [(25, 0.1), (800, 0.02)])  # the smaller, the fewer
def test_shards_of_alike_samples_are_touched_as_the_formula_says(shard: int, apart: float) -> None:
    rng, samples = np.random.default_rng(0), np.full(40_000 // shard, shard)
    units = shard_units(samples, np.ones(len(samples)))
    keys = rng.random(40_000)
    touched, kept = [], []
    for weight in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 5.0):
        ids = choose(keys.copy(), 20_000, units, weight)
        touched.append(float((units.count(ids) > 0).mean()))
        kept.append(float(rank01(keys)[ids].mean()))
    assert touched == sorted(touched, reverse=True) and kept == sorted(kept, reverse=True)
    formula = [min(1, 0.5 / np.sqrt(2 * w)) for w in (0.1, 0.2, 0.3, 0.4)]
    np.testing.assert_allclose(touched[1:5], formula, atol=apart)
    assert touched[-2:] == [0.5, 0.5] and touched[0] == 1


def test_whole_shards_of_the_best_mean_are_what_a_large_weight_takes() -> None:
    rng, samples = np.random.default_rng(1), np.full(30, 20)
    keys = rng.random(600) + np.repeat(rng.random(30), 20)
    units = shard_units(samples, np.ones(30))
    ids = choose(keys.copy(), 200, units, 100.0)
    best = np.sort(np.argsort(rank01(keys).reshape(30, 20).mean(axis=1))[-10:])
    np.testing.assert_array_equal(ids, np.flatnonzero(np.isin(np.arange(600) // 20, best)))


def test_large_samples_cost_more() -> None:
    rng, bytes_per_sample = np.random.default_rng(2), np.repeat([100.0, 900.0], 20)
    units = shard_units(np.full(40, 50), bytes_per_sample)
    assert units.cost.sum() == pytest.approx(2000)
    touched = units.count(choose(rng.random(2000), 1000, units, 0.3)) > 0
    assert touched[:20].all() and touched[20:].mean() < 0.5


@pytest.mark.parametrize("chunk", [7, 64, 700])
def test_millions_are_chosen_chunk_by_chunk(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    samples = rng.integers(0, 90, 60)
    units, keys = shard_units(samples, rng.random(60) + 0.5), rng.normal(size=int(samples.sum()))
    values, k = rank01(keys), len(keys) // 3
    whole = choose(keys.copy(), k, units, 0.25)
    monkeypatch.setattr("composer_dataagent.selection.sketch.CHUNK", chunk)
    np.testing.assert_array_equal(choose(keys.copy(), k, units, 0.25), whole)
    monkeypatch.setattr("composer_dataagent.selection.gumbel.SKETCH_FROM", 1)
    sketched = choose(keys.copy(), k, units, 0.25)

    def net(ids: NDArray[np.int64]) -> float:
        return float(values[ids].sum()) - price(units, ids, 0.25)

    # Ranks of a histogram.
    assert net(sketched) == pytest.approx(net(whole), abs=0.01 * k)


# ---------------------------------------------------------------------- every selector


def with_units(ledger: Ledger, shard: int) -> Ledger:
    samples = np.diff(np.r_[np.arange(0, len(ledger), shard), len(ledger)])
    ledger.units = shard_units(samples, np.ones(len(samples)))
    return ledger


def select(spec: Any, ledger: Ledger, size: int, seed: int = 0) -> Selection:
    return build_selector(spec).select(ledger, size, np.random.default_rng(seed))


def touched(ledger: Ledger, ids: NDArray[np.int64]) -> float:
    assert ledger.units is not None
    return float((ledger.units.count(ids) > 0).mean())


@pytest.mark.parametrize("name", SIZED)
@given(data=st.data(), ledger=any_ledger(), weight=weights)
def test_every_rule_picks_exactly_size_and_unseen_samples_first(
    name: str, data: st.DataObject, ledger: Ledger, weight: float
) -> None:
    with_units(ledger, data.draw(st.integers(1, 10), label="shard"))
    size = data.draw(st.integers(1, len(ledger)), label="size")
    spec = {"name": name, "egress_weight": weight}
    selection, again = (select(spec, ledger, size) for _ in range(2))
    ids = selection.ids
    assert len(ids) == size and (np.diff(ids) > 0).all()
    assert ids[0] >= 0 and ids[-1] < len(ledger)
    np.testing.assert_array_equal(ids, again.ids)
    if selection.weights is not None:
        assert np.isfinite(selection.weights).all() and (selection.weights >= 1).all()
    if name != "random":
        unseen = np.flatnonzero(~ledger.seen)
        assert np.isin(ids, unseen).sum() == min(size, len(unseen))


@pytest.mark.parametrize("name", SIZED)
def test_a_weight_of_nothing_changes_nothing(name: str) -> None:
    ledger = with_units(make_ledger(500, unseen=30), 20)
    for seed in range(3):
        plain = select(name, ledger, 250, seed)
        other = select({"name": name, "egress_weight": 0}, ledger, 250, seed)
        np.testing.assert_array_equal(other.ids, plain.ids)
    assert repr(build_selector({"name": name, "egress_weight": 0.0})) == repr(build_selector(name))


@pytest.mark.parametrize("name", [name for name in SIZED if name != "infobatch"])
def test_every_rule_touches_fewer_shards(name: str) -> None:
    ledger = with_units(make_ledger(2000), 50)
    shares = [
        touched(ledger, select({"name": name, "egress_weight": w}, ledger, 1000).ids)
        for w in (0.0, 0.2, 1.0)
    ]
    assert shares[0] == 1 and 0.7 < shares[1] < 0.9
    assert shares[2] == 0.5
    assert "egress_weight=0.2" in repr(build_selector({"name": name, "egress_weight": 0.2}))


def test_infobatch_keeps_its_strata_and_draws_shards_where_they_are_apart() -> None:
    loss = np.where(np.arange(2000) < 1500, 0.1, 2.0) + np.random.default_rng(0).random(2000) / 9
    ledger = with_units(make_ledger(2000, loss=loss), 50)
    below = ledger.loss < ledger.loss.mean(dtype=np.float64)
    plain, cheap = (
        select({"name": "infobatch", "egress_weight": w}, ledger, 1000) for w in (0.0, 1.0)
    )
    assert touched(ledger, plain.ids) == 1 and touched(ledger, cheap.ids) == 0.5
    for selection in (plain, cheap):
        assert selection.weights is not None
        assert selection.weights[below[selection.ids]].sum() == pytest.approx(below.sum())


def test_many_unseen_samples_come_by_shards_and_few_open_theirs() -> None:
    ledger = with_units(make_ledger(2000, unseen=1200), 50)
    spec = {"name": "loss", "egress_weight": 1.0}
    ids = select(spec, ledger, 600).ids
    assert (ids < 1200).all() and touched(ledger, ids) == 12 / 40
    # The last shard of the unseen has 20 of them, and costs nothing more for the others.
    ledger = with_units(make_ledger(2000, unseen=20), 50)
    ledger.loss[20:50] = 0.01  # nothing would open it else
    ids = select(spec, ledger, 120).ids
    assert (ids < 50).sum() >= 20 and touched(ledger, ids) <= 4 / 40


def test_guards_go_first_in_rank_but_wait_for_their_shard() -> None:
    """A rare class, all of it in shards of its own, is not shut out as by its scores."""
    label = np.where(np.arange(1000) < 100, 1, 0).astype(np.int32)
    score = np.where(label == 1, 0.0, np.random.default_rng(0).random(1000))
    ledger = with_units(make_ledger(1000, label=label, score=score), 25)
    spec = {"name": "data_agent", "explore": None, "egress_weight": 0.4}
    assert (select({**spec, "class_floor": 0.0}, ledger, 300).ids < 100).sum() == 0
    assert (select(spec, ledger, 300).ids < 100).sum() == 100


def test_samples_that_nobody_saw_for_long_open_their_shard() -> None:
    score = np.where(np.arange(1000) < 50, 0.0, np.random.default_rng(0).random(1000))
    ledger = with_units(make_ledger(1000, score=score), 25)
    ledger.last_seen[50:] = 40
    spec = {"name": "data_agent", "explore": None, "egress_weight": 0.3, "class_floor": 0.0}
    assert (select({**spec, "max_age": None}, ledger, 500).ids < 50).sum() == 0
    assert (select(spec, ledger, 500).ids < 50).sum() == 50


def test_full_is_everything_with_any_weight() -> None:
    ledger = with_units(make_ledger(50), 5)
    assert len(select({"name": "full", "egress_weight": 3.0}, ledger, 5).ids) == 50


def test_candidates_of_a_round_are_runs_within_their_shards() -> None:
    ledger = with_units(make_ledger(100), 20)
    candidates = np.sort(np.random.default_rng(0).permutation(100)[:40])
    assert ledger.units is not None
    part = ledger.rows(candidates, 1).units
    assert part is not None and part.samples.tolist() == ledger.units.count(candidates).tolist()
    np.testing.assert_array_equal(part.cost, ledger.units.cost)  # a shard is read as a whole


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize("weight", [-0.1, np.inf, np.nan, "much", True, None])
@pytest.mark.parametrize("name", selector_names())
def test_a_weight_out_of_range_is_named(name: str, weight: Any) -> None:
    with pytest.raises(ValueError, match=rf"egress_weight={weight!r} is not accepted.*>= 0"):
        build_selector({"name": name, "egress_weight": weight})


def test_shards_that_are_not_known_are_asked_for() -> None:
    with pytest.raises(ValueError, match=r"'loss' has egress_weight=0\.2, but ledger\.units"):
        select({"name": "loss", "egress_weight": 0.2}, make_ledger(10), 5)


@pytest.mark.parametrize("weighs", [False, True])
def test_a_users_rule_says_whether_it_can(weighs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SELECTORS, "mine", Selector)
    monkeypatch.delitem(SELECTORS, "mine")

    @register_selector("mine")
    class Mine(Selector):
        """Seldom seen samples first."""

        summary = "seldom seen first"
        weighs_egress = weighs

        def select(self, ledger: Ledger, size: int, rng: np.random.Generator) -> Selection:
            del rng
            return Selection(self.best(-ledger.visits.astype(np.float32), size, ledger))

    spec = {"name": "mine", "egress_weight": 0.3}
    if weighs:
        ledger = with_units(make_ledger(100), 10)
        assert touched(ledger, select(spec, ledger, 50).ids) == 0.5
    else:
        with pytest.raises(ValueError, match=r"'mine' knows of no egress_weight.*self\.best"):
            build_selector(spec)
        assert len(select({**spec, "egress_weight": 0}, make_ledger(9), 3).ids) == 3
