# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Laws that every selector keeps, what each prefers, and the registry that knows them by name."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ledgers import any_ledger, make_ledger
from numpy.typing import NDArray
from scipy.stats import rankdata

from composer_dataagent.agent import composite_reward
from composer_dataagent.selection import (
    LEDGER_COLUMNS,
    MISLABEL_GATE_SHARE,
    SELECTORS,
    Ledger,
    Selection,
    Selector,
    build_selector,
    register_selector,
    selector_names,
)

SIZED = [name for name in selector_names() if name != "full"]
UNSEEN_FIRST = [name for name in SIZED if name != "random"]
# What each ranks by.
RANKED = {"data_agent": "score", "loss": "loss", "entropy": "entropy"}
GREEDY: list[dict[str, Any]] = [{"name": name, "explore": None} for name in (*RANKED, "reward")]


def select(spec: Any, ledger: Ledger, size: int, seed: int = 0) -> Selection:
    return build_selector(spec).select(ledger, size, np.random.default_rng(seed))


def mean_rank(column: NDArray, ids: NDArray[np.int64]) -> float:
    """Mean rank in [0, 1] of some samples among all: 0.5 for a random half."""
    return float(((rankdata(column) - 1) / (len(column) - 1))[ids].mean())


# ---------------------------------------------------------------------- every selector


@pytest.mark.parametrize("spec", [*SIZED, *GREEDY], ids=str)
@given(data=st.data(), ledger=any_ledger())
def test_exactly_size_sorted_unique_ids_by_nothing_but_the_arguments(
    spec: Any, data: st.DataObject, ledger: Ledger
) -> None:
    size = data.draw(st.integers(1, len(ledger)), label="size")
    seed = data.draw(st.integers(0, 5), label="seed")
    before = {name: getattr(ledger, name).copy() for name in [*LEDGER_COLUMNS, "flagged"]}
    global_state = np.random.get_state(legacy=False)

    selection, again = (select(spec, ledger, size, seed) for _ in range(2))

    ids = selection.ids
    assert ids.dtype.kind == "i" and len(ids) == size
    assert (np.diff(ids) > 0).all() and ids[0] >= 0 and ids[-1] < len(ledger)
    if selection.weights is not None:
        assert selection.weights.dtype == np.float32
        assert np.isfinite(selection.weights).all() and (selection.weights >= 1).all()
    np.testing.assert_array_equal(again.ids, ids)
    np.testing.assert_array_equal(again.weights, selection.weights)  # type: ignore[arg-type]
    np.testing.assert_equal(np.random.get_state(legacy=False), global_state)
    for name, column in before.items():
        np.testing.assert_array_equal(getattr(ledger, name), column)


@pytest.mark.parametrize("name", UNSEEN_FIRST)
@given(data=st.data(), ledger=any_ledger())
def test_unseen_samples_come_first(name: str, data: st.DataObject, ledger: Ledger) -> None:
    size = data.draw(st.integers(1, len(ledger)), label="size")
    unseen = np.flatnonzero(~ledger.seen)
    selection = select(name, ledger, size)
    assert np.isin(selection.ids, unseen).sum() == min(size, len(unseen))
    if selection.weights is not None:
        assert (selection.weights[np.isin(selection.ids, unseen)] == 1).all()


@pytest.mark.parametrize("name", UNSEEN_FIRST)
def test_which_of_many_unseen_samples_come_first_is_random(name: str) -> None:
    ledger = make_ledger(200, unseen=150)
    counts = np.zeros(200)
    for seed in range(300):
        counts[select(name, ledger, 50, seed).ids] += 1
    assert (counts[150:] == 0).all()
    # Binomial with mean 100 and deviation 8.2.
    assert (np.abs(counts[:150] - 100) < 40).all()


def test_random_takes_no_notice_of_who_was_seen() -> None:
    ledger = make_ledger(2000, unseen=1000)
    seen = np.mean([(select("random", ledger, 500, seed).ids >= 1000).mean() for seed in range(9)])
    assert seen == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("name", [name for name in SIZED if name != "ucb"])
def test_two_epochs_differ(name: str) -> None:
    ledger = make_ledger(500)
    first, second = (select(name, ledger, 250, seed).ids for seed in (0, 1))
    assert 20 < len(np.setdiff1d(second, first)) < 200


@pytest.mark.parametrize("spec", ["ucb", *GREEDY], ids=str)
def test_a_greedy_rule_repeats_itself(spec: Any) -> None:
    ledger = make_ledger(500)
    first, second = (select(spec, ledger, 250, seed).ids for seed in (0, 1))
    np.testing.assert_array_equal(first, second)


# ---------------------------------------------------------------------- what each prefers


@pytest.mark.parametrize(("name", "column"), RANKED.items())
def test_ranked_selectors_prefer_high_values_the_more_the_less_they_explore(
    name: str, column: str
) -> None:
    ledger = make_ledger(4000)
    ranks = [
        mean_rank(getattr(ledger, column), select({"name": name, "explore": e}, ledger, 2000).ids)
        for e in (0, 1, 4.0, None)
    ]
    assert ranks == sorted(ranks)
    assert ranks[0] == pytest.approx(0.5, abs=0.02)
    assert 0.6 < ranks[2] < 0.72
    assert ranks[3] == pytest.approx(0.75, abs=0.001)


def test_random_prefers_nothing() -> None:
    ledger = make_ledger(4000)
    ids = select("random", ledger, 2000).ids
    for column in (ledger.loss, ledger.entropy):
        assert mean_rank(column, ids) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("name", ["infobatch", "ucb", "reward"])
def test_other_rules_prefer_high_losses(name: str) -> None:
    ledger = make_ledger(4000, entropy=np.full(4000, 0.3))
    assert mean_rank(ledger.loss, select(name, ledger, 2000).ids) > 0.6


def test_full_is_everything_whatever_the_size() -> None:
    selection = select("full", make_ledger(50, unseen=10), 5)
    np.testing.assert_array_equal(selection.ids, np.arange(50))
    assert selection.weights is None


@given(
    loss=st.lists(st.floats(0, 50, width=32), min_size=1, max_size=60),
    entropy_seed=st.integers(0, 99),
)
def test_reward_ranks_by_the_composite_that_the_agent_learns_from(
    loss: list[float], entropy_seed: int
) -> None:
    count = len(loss)
    entropy = np.random.default_rng(entropy_seed).random(count)
    ledger = make_ledger(count, loss=np.array(loss), entropy=entropy)
    expected = composite_reward(torch.from_numpy(ledger.loss), torch.from_numpy(ledger.entropy))
    score = SELECTORS["reward"]().score(ledger, np.arange(count))  # type: ignore[attr-defined]
    np.testing.assert_allclose(score, expected.reward.numpy(), atol=2e-5)


@pytest.mark.parametrize("explore", [-1.0, np.inf, np.nan])
@pytest.mark.parametrize("name", [*RANKED, "reward"])
def test_an_exploration_out_of_range_is_named(name: str, explore: float) -> None:
    with pytest.raises(ValueError, match=rf"explore={explore}.*>= 0"):
        build_selector({"name": name, "explore": explore})


# ---------------------------------------------------------------------- the mislabel gate


def ledger_with_flags(flagged: int, count: int = 100) -> Ledger:
    """The first ``flagged`` samples contradict their label and have the highest scores."""
    agreement = np.ones(count)
    agreement[:flagged] = 0.1
    ledger = make_ledger(
        count,
        agreement=agreement,
        label=np.arange(count) % 4,
        score=np.linspace(1, 0, count),
    )
    ledger.refresh_flags()
    assert ledger.flagged.sum() == flagged
    return ledger


def test_the_gate_puts_flagged_samples_last_from_six_percent_on() -> None:
    assert MISLABEL_GATE_SHARE == 0.06
    greedy = {"name": "data_agent", "explore": None, "class_floor": 0.0}
    few, many = ledger_with_flags(5), ledger_with_flags(6)
    assert (select(greedy, few, 50).ids < 5).sum() == 5
    assert (select(greedy, many, 50).ids < 6).sum() == 0
    assert (select(greedy, many, 94).ids >= 6).all()
    assert (select(greedy, many, 96).ids < 6).sum() == 2
    assert (select({**greedy, "gate": 0.0}, many, 50).ids < 6).sum() == 6


def test_noise_can_bring_a_flagged_sample_back() -> None:
    ledger = ledger_with_flags(20)

    def share(gate: float) -> float:
        spec = {"name": "data_agent", "gate": gate, "class_floor": 0.0}
        return float(np.mean([(select(spec, ledger, 50, s).ids < 20).mean() for s in range(100)]))

    # They have the highest scores. A gate of 8 takes what the best rank gives.
    assert 0 < share(8.0) < 0.1 < share(4.0) < share(0.0) < 0.4


def test_a_rare_class_keeps_its_floor() -> None:
    label = np.r_[np.zeros(90), np.ones(10)].astype(np.int32)
    score = np.where(label == 1, 0.0, 1.0)  # the agent does not want it
    ledger = make_ledger(100, label=label, score=score)
    greedy = {"name": "data_agent", "explore": None}
    assert (label[select({**greedy, "class_floor": 0.0}, ledger, 40).ids] == 1).sum() == 0
    assert (label[select(greedy, ledger, 16).ids] == 1).sum() == 4  # half of 8, of a class of 10
    assert (label[select({**greedy, "class_floor": 0.2}, ledger, 20).ids] == 1).sum() == 10
    assert (label[select(greedy, ledger, 40).ids] == 1).sum() == 10


def test_a_rare_class_has_no_floor_while_labels_are_in_doubt() -> None:
    label = np.r_[np.zeros(90), np.ones(10)].astype(np.int32)
    ledger = make_ledger(100, label=label, score=np.where(label == 1, 0.0, 1.0))
    greedy = {"name": "data_agent", "explore": None}
    ledger.label_trust = 0.74
    assert (label[select(greedy, ledger, 40).ids] == 1).sum() == 0
    assert (label[select({**greedy, "trust": 0.0}, ledger, 40).ids] == 1).sum() == 10
    ledger.label_trust = 0.75
    assert (label[select(greedy, ledger, 40).ids] == 1).sum() == 10


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("gate", -1),
        ("gate", True),
        ("gate", np.inf),
        ("trust", 1.5),
        ("patience", -0.1),
        ("class_floor", "half"),
        ("max_age", 1),
        ("max_age", np.inf),
        ("min_fit", 2),
        ("min_fit", np.nan),
    ],
)
def test_a_guard_out_of_range_is_named(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{argument}={value!r} is not accepted; it must be"):
        build_selector({"name": "data_agent", argument: value})


def test_data_agent_needs_a_score() -> None:
    ledger = make_ledger(10)
    ledger.score = None
    with pytest.raises(ValueError, match=r"data_agent.*ledger\.score"):
        select("data_agent", ledger, 5)
    assert [name for name in selector_names() if SELECTORS[name].uses_score] == ["data_agent"]


# ---------------------------------------------------------------------- infobatch


@given(data=st.data(), ledger=any_ledger(), max_prune=st.floats(0.01, 0.99))
def test_weights_of_a_stratum_sum_to_its_size(
    data: st.DataObject, ledger: Ledger, max_prune: float
) -> None:
    size = data.draw(st.integers(1, len(ledger)), label="size")
    selection = select({"name": "infobatch", "max_prune": max_prune}, ledger, size)
    seen, unseen = np.flatnonzero(ledger.seen), np.flatnonzero(~ledger.seen)
    weights = np.zeros(len(ledger))
    weights[selection.ids] = 1 if selection.weights is None else selection.weights
    if size in (len(unseen), len(ledger)) or len(unseen) > size:
        assert selection.weights is None
        return
    is_below = ledger.loss[seen] < ledger.loss[seen].mean(dtype=np.float64)
    strata = [seen[is_below], seen[~is_below]] if size - len(unseen) > 1 else [seen]
    for stratum in strata:
        assert weights[stratum].sum() == pytest.approx(len(stratum), rel=1e-5)
        assert len(set(weights[stratum][weights[stratum] > 0])) <= 1
    assert (weights[unseen] == 1).all()


@pytest.mark.parametrize(("size", "max_prune"), [(150, 0.75), (60, 0.75), (40, 0.2), (1, 0.75)])
def test_the_weighted_sum_is_unbiased(size: int, max_prune: float) -> None:
    ledger = make_ledger(200)
    rng = np.random.default_rng(1)
    gradient = ledger.loss + rng.normal(size=200)  # any number per sample, related to its loss
    selector = build_selector({"name": "infobatch", "max_prune": max_prune})
    sums = []
    for _ in range(3000):
        selection = selector.select(ledger, size, rng)
        assert selection.weights is not None
        sums.append((selection.weights * gradient[selection.ids]).sum())
    deviation = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - gradient.sum()) < 4 * deviation


def test_only_easy_samples_are_pruned_until_max_prune_is_reached() -> None:
    ledger = make_ledger(1000)
    easy = ledger.loss < ledger.loss.mean()
    most = int(0.75 * easy.sum())
    hard_kept = [
        np.isin(np.flatnonzero(~easy), select("infobatch", ledger, 1000 - pruned).ids).mean()
        for pruned in (0, most // 2, most, most + 100)
    ]
    assert hard_kept[:3] == [1, 1, 1] and hard_kept[3] < 1
    selection = select("infobatch", ledger, 1000 - most)
    assert selection.weights is not None and selection.weights.max() == pytest.approx(4, abs=0.05)


@pytest.mark.parametrize("max_prune", [0.0, 1.0, -0.5, np.nan])
def test_a_max_prune_out_of_range_is_named(max_prune: float) -> None:
    with pytest.raises(ValueError, match=rf"max_prune={max_prune}.*\(0, 1\)"):
        build_selector({"name": "infobatch", "max_prune": max_prune})


# ---------------------------------------------------------------------- ucb


def ucb_run(decay: float, epochs: int = 6) -> Iterator[tuple[Ledger, NDArray, NDArray]]:
    """Epochs over 40 samples, two thirds seen in each, with moments by the plain recursion."""
    rng = np.random.default_rng(3)
    ledger = Ledger(40)
    mean, variance = np.full(40, np.nan), np.zeros(40)
    for epoch in range(epochs):
        ids = rng.choice(40, 40 if epoch == 0 else 27, replace=False)
        loss = rng.exponential(size=len(ids)).astype(np.float32)
        ledger.record(ids, epoch, loss=loss, entropy=loss)
        for i, value in zip(ids, loss.astype(float), strict=True):
            if np.isnan(mean[i]):
                mean[i] = value
            else:
                deviation = value - mean[i]
                mean[i] += (1 - decay) * deviation
                variance[i] = decay * (variance[i] + (1 - decay) * deviation**2)
        yield ledger, mean, variance


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.8])
def test_ucb_ranks_by_the_moments_of_the_loss(decay: float) -> None:
    selector = build_selector({"name": "ucb", "decay": decay, "c": 0.7})
    rng = np.random.default_rng(0)
    for ledger, mean, variance in ucb_run(decay):
        expected = np.sort(np.argsort(-(mean + 0.7 * np.sqrt(variance)))[:15])
        for _ in range(2):  # asking twice within an epoch must not count it twice
            np.testing.assert_array_equal(selector.select(ledger, 15, rng).ids, expected)
        state = selector.state_dict()
        np.testing.assert_allclose(state["mean"], mean, rtol=1e-5)
        np.testing.assert_allclose(state["variance"], variance, rtol=1e-4, atol=1e-7)


def test_ucb_looks_again_where_the_loss_moves() -> None:
    ledger = Ledger(2)
    with_deviation, without = build_selector("ucb"), build_selector({"name": "ucb", "c": 0.0})
    rng = np.random.default_rng(0)
    picked = []
    for epoch, moving in enumerate([0.9, 0.1, 0.9, 0.1]):
        ledger.record(np.arange(2), epoch, np.array([0.8, moving]), np.zeros(2))
        picked = [s.select(ledger, 1, rng).ids.tolist() for s in (with_deviation, without)]
    assert picked == [[1], [0]]


def test_a_ucb_that_joins_late_starts_from_the_last_losses() -> None:
    (*_, (ledger, _, _)) = ucb_run(0.8)
    ids = build_selector("ucb").select(ledger, 15, np.random.default_rng(0)).ids
    np.testing.assert_array_equal(ids, np.sort(np.argsort(-ledger.loss)[:15]))


def test_a_resumed_ucb_goes_on_as_if_never_stopped() -> None:
    original, rng = build_selector("ucb"), np.random.default_rng(0)
    assert original.state_dict() == {}
    resumed = build_selector("ucb")
    resumed.load_state_dict({})
    for ledger, _, _ in ucb_run(0.8):
        expected = original.select(ledger, 15, rng)
        file = io.BytesIO()
        np.testing.assert_array_equal(resumed.select(ledger, 15, rng).ids, expected.ids)
        torch.save(original.state_dict(), file)
        file.seek(0)
        resumed = build_selector("ucb")
        resumed.load_state_dict(torch.load(file, weights_only=True))


@pytest.mark.parametrize("bad", [{"decay": 1.0}, {"decay": -0.1}, {"c": -1.0}, {"c": np.inf}])
def test_a_bad_ucb_argument_is_named(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        build_selector({"name": "ucb", **bad})


@pytest.mark.parametrize("name", [name for name in selector_names() if name != "ucb"])
def test_other_rules_remember_nothing(name: str) -> None:
    selector = build_selector(name)
    selector.select(make_ledger(20), 10, np.random.default_rng(0))
    assert selector.state_dict() == {}
    selector.load_state_dict({})


# ---------------------------------------------------------------------- the registry


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets after the test what the test registers."""
    for name in ("mine", "needy"):
        monkeypatch.setitem(SELECTORS, name, Selector)
        monkeypatch.delitem(SELECTORS, name)


@pytest.mark.usefixtures("registry")
def test_a_users_rule_is_known_by_its_name() -> None:
    @register_selector("mine")
    class Mine(Selector):
        """The method card's example."""

        name = "mine"
        summary = "The samples seen least often first"

        def select(self, ledger: Ledger, size: int, rng: np.random.Generator) -> Selection:
            order = ledger.visits.argsort(kind="stable")
            return Selection(ids=np.sort(order[:size]))

    assert "mine" in selector_names() and selector_names() == sorted(selector_names())
    selector = build_selector("mine")
    assert isinstance(selector, Mine) and Mine.name == "mine"
    ids = selector.select(make_ledger(10, unseen=3), 4, np.random.default_rng(0)).ids
    assert ids.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"'mine' is taken by .*Mine"):
        register_selector("mine")(Mine)
    with pytest.raises(ValueError, match=r"'mine'.*extra.*accepts no arguments"):
        build_selector({"name": "mine", "extra": 1})


@pytest.mark.usefixtures("registry")
def test_an_argument_that_a_rule_needs_is_asked_for() -> None:
    @register_selector("needy")
    class Needy(Selector):
        """A rule with a required argument and any others."""

        summary = "needs alpha"

        def __init__(self, alpha: float, **others: float) -> None:
            self.alpha, self.others = alpha, others

        def select(self, ledger: Ledger, size: int, rng: np.random.Generator) -> Selection:
            raise NotImplementedError

    with pytest.raises(ValueError, match=r"'needy'.*alpha"):
        build_selector("needy")
    built: Any = build_selector({"name": "needy", "alpha": 2, "beta": 3})
    assert (built.alpha, built.others) == (2, {"beta": 3})


def test_the_names() -> None:
    assert selector_names() == [
        "data_agent", "entropy", "full", "infobatch", "loss", "random", "reward", "ucb"
    ]  # fmt: skip
    for name in selector_names():
        selector = build_selector(name)
        assert selector.name == name
        assert selector.summary and "\n" not in selector.summary


def test_a_selector_is_taken_as_it_is_and_a_mapping_is_left_as_it_was() -> None:
    selector = build_selector("loss")
    assert build_selector(selector) is selector
    spec = MappingProxyType({"name": "loss", "explore": 2})  # OmegaConf's are no dicts either
    assert build_selector(spec).explore == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("rnadom", ValueError, r"'rnadom' is not known.*'infobatch', 'loss'.*mean 'random'\?"),
        ("zzz", ValueError, r"'zzz' is not known; it must be one of \['data_agent', .*'ucb'\]\.$"),
        ({"name": "loss", "explor": 1}, ValueError, r"'loss'.*'explor'.*accepts \['explore', 'egr"),
        ({"name": "random", "explore": 1}, ValueError, r"'random'.*explore.*accepts \['egress_w"),
        ({"explore": 1}, TypeError, r"must be a name, a mapping with a `name`, or a Selector"),
        (3, TypeError, r"selector=3 is not accepted"),
        (None, TypeError, r"selector=None is not accepted"),
    ],
    ids=str,
)
def test_a_bad_spec_is_told_what_is_accepted(
    spec: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build_selector(spec)


@pytest.mark.parametrize(
    "ids", [[3, 1, 2], [1, 1, 2], [[1, 2]], [0.0, 1.0], [True, False]], ids=str
)
def test_a_selection_of_ids_in_disorder_is_refused(ids: list) -> None:
    with pytest.raises(ValueError, match=r"sorted, unique integers.*np\.unique"):
        Selection(np.array(ids))


def test_a_selection_with_weights_for_others_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one weight for each of its 3 ids"):
        Selection(np.arange(3), np.ones(4, np.float32))
