# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Rounds within an epoch: for data that are seen once."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composer import Trainer
from composer.core import Callback
from composer.models import ComposerClassifier
from digits_run import (
    CLASSES,
    NUM_SAMPLES,
    Recorder,
    StoredDigits,
    build_trainer,
    make_loader,
    make_map_loader,
    make_model,
    weights_of,
)
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sound_runs import assert_sound
from streaming import MDSWriter
from torch import nn
from torch.utils.data import DataLoader

from composer_dataagent import DataAgent
from composer_dataagent.look import share_of_rank
from composer_dataagent.report.history import read_rows
from composer_dataagent.rounds import parts_of, rounds_per_epoch
from composer_dataagent.selection.selectors import RandomSelector

BATCH = 8


def _loader(shards: str, kind: str, **loader: Any) -> Any:
    if kind == "map":
        return make_map_loader(batch_size=BATCH, **loader)
    return make_loader(shards, batch_size=BATCH, **loader)


def _run(
    loader: Any, epochs: int = 1, trainer: dict[str, Any] | None = None, **arguments: Any
) -> tuple[Trainer, DataAgent, Recorder]:
    recorder = Recorder()
    agent = DataAgent(**{"ratio": 0.5, "interval": "0.25ep"} | arguments)
    run = build_trainer(loader, agent, epochs=epochs, callbacks=[recorder], **(trainer or {}))
    run.fit()
    return run, agent, recorder


@pytest.mark.parametrize("kind", ["streaming", "map"])
@pytest.mark.parametrize("look", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_each_round_trains_once_on_its_part(
    shards: str, tmp_path: Path, kind: str, look: bool, workers: int
) -> None:
    loader = _loader(shards, kind, num_workers=workers, persistent_workers=workers > 0)
    run, agent, recorder = _run(loader, epochs=2, look=look, run_dir=str(tmp_path))
    rows = read_rows(tmp_path)
    assert [row["epoch"] for row in rows] == list(range(8))
    # A full round first, then half of what each chooses from.
    parts = [NUM_SAMPLES * (at + 1) // 4 - NUM_SAMPLES * at // 4 for at in range(4)] * 2
    sizes = parts[:1] + [(count + 1) // 2 for count in parts[1:]]
    assert [row["selected"] for row in rows] == sizes
    for ids in recorder.by_epoch():
        assert len(set(ids)) == len(ids)
    assert [len(ids) for ids in recorder.by_epoch()] == [sum(sizes[:4]), sum(sizes[4:])]
    assert rows[-1]["samples_seen"] == sum(sizes)
    assert [row["looked"] for row in rows] == ([0, *parts[1:]] if look else [0] * 8)
    unseen = NUM_SAMPLES - len({i for ids in recorder.by_epoch() for i in ids})
    assert_sound(run, agent, unseen)


def _same(run: Any, other: Any) -> None:
    (a, agent_a, recorder_a), (b, agent_b, recorder_b) = run, other
    for name, weight in weights_of(a).items():
        assert torch.equal(weight, weights_of(b)[name]), name
    assert agent_a.ledger.digest() == agent_b.ledger.digest()
    assert recorder_a.ids[-len(recorder_b.ids) :] == recorder_b.ids


@pytest.fixture(scope="module")
def uninterrupted(shards: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of two epochs in four rounds each, and a checkpoint after every batch."""

    def run(kind: str, look: bool, workers: int) -> Any:
        folder = tmp_path_factory.mktemp("checkpoints")
        whole = _run(
            _loader(shards, kind, num_workers=workers, persistent_workers=workers > 0),
            epochs=2,
            look=look,
            state="both",
            trainer={"save_folder": str(folder), "save_interval": "1ba"},
        )
        return whole, folder

    return functools.cache(run)


@pytest.mark.parametrize("kind", ["streaming", "map"])
# 7 batches of a full round, then 4 a round: inside rounds and at their ends.
@pytest.mark.parametrize(
    ("look", "workers", "batches"), [(False, 0, (3, 7, 9, 18, 23)), (True, 2, (9, 18))]
)
def test_resumed_after_any_batch_equals_uninterrupted(
    shards: str, uninterrupted: Any, kind: str, look: bool, workers: int, batches: tuple[int, ...]
) -> None:
    whole, folder = uninterrupted(kind, look, workers)
    for batch in batches:
        (path,) = (p for p in folder.glob(f"ep?-ba{batch}-rank0.pt"))
        again = _run(
            _loader(shards, kind, num_workers=workers, persistent_workers=workers > 0),
            epochs=2,
            look=look,
            state="both",
            trainer={"load_path": str(path)},
        )
        _same(whole, again)


def test_fits_that_stop_between_and_inside_rounds(shards: str) -> None:
    def fit(*durations: str) -> Any:
        recorder = Recorder()
        agent = DataAgent(0.5, interval="0.25ep", state="both")
        # A schedule would see another end of training in each fit.
        run = build_trainer(
            make_loader(shards, batch_size=BATCH),
            agent,
            callbacks=[recorder],
            max_duration=None,
            schedulers=None,
        )
        for duration in durations:
            run.fit(duration=duration)
        return run, agent, recorder

    # To the end of the first round, into the second, beyond it, and past the epoch's end.
    _, _, recorder = fit("7ba", "2ba", "5ba", "14ba")
    by_epoch = recorder.by_epoch()
    assert [len(ids) for ids in by_epoch] == [128, 59]
    assert all(len(set(ids)) == len(ids) for ids in by_epoch)
    _, _, uncut = fit("28ba")
    assert [len(ids) for _, ids in uncut.ids] == [len(ids) for _, ids in recorder.ids]


def test_a_single_epoch_is_pruned_and_the_schedule_ends_at_its_end(shards: str) -> None:
    _, _, recorder = _run(make_loader(shards, batch_size=BATCH), interval="6ba")
    _, _, full = _run(make_loader(shards, batch_size=BATCH), ratio=1.0, interval=None)
    assert len(recorder.ids) < 0.75 * len(full.ids)
    rates = recorder.learning_rates
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == full.learning_rates[0]
    assert rates[-1] < 0.05 * rates[0]


@pytest.mark.parametrize("selector", ["random", "entropy", "loss", "reward", "infobatch"])
@pytest.mark.parametrize("look", [False, True])
def test_every_rule_selects_in_rounds(shards: str, selector: str, look: bool) -> None:
    loader = make_loader(shards, batch_size=BATCH)
    look &= selector != "random"  # which is refused
    _, _, recorder = _run(loader, selector=selector, look=look, warmup_epochs=0)
    (ids,) = recorder.by_epoch()
    assert len(ids) == len(set(ids)) == 25 + 26 + 26 + 26


def test_resumed_with_another_number_of_rounds(shards: str, tmp_path: Path) -> None:
    saved = {"save_folder": str(tmp_path), "save_interval": "1ep"}
    _run(make_loader(shards, batch_size=BATCH), interval="5ba", trainer=saved)
    (path,) = tmp_path.glob("ep1-ba*-rank0.pt")
    with pytest.raises(ValueError, match=r"in 5 rounds, those of this run in 3.*part of an epoch"):
        _run(
            make_loader(shards, batch_size=2 * BATCH),
            epochs=2,
            interval="5ba",
            trainer={"load_path": str(path)},
        )


def test_first_look_does_not_follow_an_agent_that_knows_nothing(
    shards: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "composer_dataagent")
    _run(make_loader(shards, batch_size=BATCH), interval=None, look=True, warmup_epochs=0)
    assert "Epoch 0: the agent has not learned yet" in caplog.text


@pytest.mark.parametrize("interval", [None, "0.25ep"])
def test_full_is_full(shards: str, interval: str | None) -> None:
    loader = make_loader(shards, batch_size=BATCH)
    _, _, recorder = _run(loader, epochs=2, selector="full", interval=interval)
    assert [sorted(ids) for ids in recorder.by_epoch()] == [list(range(NUM_SAMPLES))] * 2


class Uniform(RandomSelector):
    """At random, but shown what there is to know."""

    name, summary, is_blind = "uniform", "uniform", False


class Augmented(StoredDigits):
    """What torch draws for an image is another in each visit."""

    def __getitem__(self, at: int) -> Any:
        x, y = super().__getitem__(at)
        return x + 0.1 * torch.randn(x.shape), y


def test_look_leaves_no_trace() -> None:
    """What is chosen at random is not changed by a look, and neither is anything else."""
    runs = []
    for look in (False, True):
        torch.manual_seed(3)
        net = nn.Sequential(
            nn.Linear(64, 24), nn.BatchNorm1d(24), nn.Dropout(0.5), nn.BatchNorm1d(24),
            nn.Linear(24, CLASSES),
        )  # fmt: skip
        recorder, agent = (
            Recorder(),
            DataAgent(0.5, interval="0.25ep", selector=Uniform(), look=look),
        )
        run = build_trainer(
            DataLoader(Augmented(), batch_size=BATCH, shuffle=True, drop_last=True),
            agent,
            model=ComposerClassifier(net, num_classes=CLASSES),
            epochs=2,
            callbacks=[recorder],
        )
        run.fit()
        runs.append((run, agent, recorder))
    _same(*runs)


def _write_wrong_shards(folder: Path, per_shard: int) -> list[int]:
    """Digits, every other shard with random labels; how many samples each shard has."""
    images, labels = load_digits(return_X_y=True)
    of_images, rng = np.asarray(labels), np.random.default_rng(0)
    columns = {"x": "ndarray:float32:64", "y": "int"}
    with MDSWriter(out=str(folder), columns=columns, size_limit=8_000) as writer:
        for at in range(600):
            label = int(rng.integers(CLASSES) if at // per_shard % 2 else of_images[at])
            writer.write({"x": (np.asarray(images[at]) / 16).astype(np.float32), "y": label})
    return [shard["samples"] for shard in json.loads((folder / "index.json").read_text())["shards"]]


def test_what_a_shard_showed_is_expected_of_its_other_samples(tmp_path: Path) -> None:
    """In the first epoch, when nobody has seen a candidate."""
    per_shard = _write_wrong_shards(tmp_path / "once", 25)[0]
    assert set(_write_wrong_shards(tmp_path / "again", per_shard)[:-1]) == {per_shard}
    shares = []
    for selector in ({"name": "loss", "explore": None}, "random"):
        loader = make_loader(str(tmp_path / "again"), batch_size=BATCH)
        model = make_model()
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
        _, _, recorder = _run(
            loader,
            selector=selector,
            interval="0.1ep",
            ratio=0.3,
            trainer={"model": model, "optimizers": optimizer, "schedulers": None},
        )
        (ids,) = recorder.by_epoch()
        # The last five rounds, which choose 18 of 60 each.
        shares.append((np.array(ids[-90:]) // per_shard % 2).mean())
    assert shares[0] > shares[1] + 0.1


@pytest.mark.parametrize("rule", ["random", "full"])
def test_look_for_a_rule_that_is_blind(rule: str) -> None:
    with pytest.raises(ValueError, match=rf"selector='{rule}' uses nothing .*: remove look"):
        DataAgent(selector=rule, look=True)


def test_look_finds_the_hardest_of_each_round(shards: str) -> None:
    losses = {}
    for look in (False, True):
        _, agent, recorder = _run(
            make_loader(shards, batch_size=BATCH),
            selector={"name": "loss", "explore": None},
            look=look,
            ratio=0.3,
            warmup_epochs=0,
            interval="0.2ep",
        )
        (ids,) = recorder.by_epoch()
        losses[look] = agent.ledger.loss[ids].mean()
    assert losses[True] > losses[False]


@pytest.mark.parametrize(
    "interval", ["", "0ep", "2ep", "0.5", "-1ba", "0.5ba", "1e400ba", 0.5, "nanep"]
)
def test_wrong_interval(interval: Any) -> None:
    with pytest.raises(ValueError, match=r"interval=.*0\.1ep"):
        DataAgent(interval=interval)


def test_rule_with_a_memory_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ucb.*interval"):
        DataAgent(selector="ucb", interval="0.1ep")


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        ("0.25ep", r"ratio=0\.2 of 50 samples selects 10.*longer interval"),
        ("0.05ep", r"epoch of 13 batches into 20 rounds.*longer interval"),
        ("1e-320ep", r"epoch of 13 batches into inf rounds.*longer interval"),
    ],
)
def test_round_too_small_for_a_batch(shards: str, interval: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _run(make_loader(shards, batch_size=16), interval=interval, ratio=0.2)


def test_a_rescaled_round_weighs_as_what_it_chooses_from(shards: str) -> None:
    """A full round as it is, half of one twice, whatever share of the data it chooses from."""
    weights = []

    class Weights(Callback):
        def batch_start(self, state: Any, logger: Any) -> None:
            weights.append(agent._weights)

    agent = DataAgent(0.5, interval="0.25ep", rescale=True)
    build_trainer(
        make_loader(shards, batch_size=BATCH), agent, epochs=1, callbacks=[Weights()]
    ).fit()
    assert weights[0] is None
    assert np.allclose(weights[-1], 51 / 26)


@pytest.mark.parametrize(
    ("interval", "shares"),
    [("0.25ep", [0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8]), (None, [0, 1 / 2])],
)
def test_the_agent_knows_how_much_of_training_is_done(
    shards: str, interval: str | None, shares: list[float]
) -> None:
    """Composer counts whole epochs only, and a corpus may be seen once."""
    told = set()

    class Progress(Callback):
        def batch_end(self, state: Any, logger: Any) -> None:
            for visits in (agent.state_dict()["inside_epoch"] or {"visits": [[]]})["visits"][0]:
                told.update(visits["progress"].tolist())

    agent = DataAgent(0.5, interval=interval, update_interval=3)
    loader = make_loader(shards, batch_size=BATCH)
    build_trainer(loader, agent, epochs=2, callbacks=[Progress()]).fit()
    assert sorted(told) == pytest.approx(shares)


@pytest.mark.parametrize(
    ("interval", "batches", "rounds"),
    [
        (None, 50, 1),
        ("1ep", 50, 1),
        ("0.1ep", 50, 10),
        ("0.3ep", 50, 3),
        (" 5e-2 ep", 50, 20),
        ("10ba", 50, 5),
        ("2000ba", 50, 1),
        ("1ba", 50, 50),
    ],
)
def test_rounds_of_an_epoch(interval: str | None, batches: int, rounds: int) -> None:
    assert rounds_per_epoch(interval, batches) == rounds


@given(st.integers(1, 1000), st.integers(1, 60))
def test_parts_are_a_partition(count: int, parts: int) -> None:
    found = [i for part in parts_of(count, parts) for i in range(count)[part]]
    assert found == list(range(count))
    sizes = [part.stop - part.start for part in parts_of(count, parts)]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 100), st.integers(1, 8))
def test_ranks_look_at_everything_in_equal_numbers(count: int, ranks: int) -> None:
    shares = [share_of_rank(np.arange(count), rank, ranks) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    assert set(np.concatenate(shares)) == set(range(count))
    assert sum(map(len, shares)) < count + ranks
