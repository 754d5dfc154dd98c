# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a training run with DataAgent does, through Composer's own Trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from composer.algorithms import EMA, SAM, LabelSmoothing
from composer.core import Callback, Event
from composer.loggers import InMemoryLogger
from digits_run import NUM_SAMPLES, Recorder, make_loader, make_model, weights_of
from torch.utils.data import default_collate

from composer_dataagent import DataAgent
from composer_dataagent.report import read_run
from composer_dataagent.selection import Selection, Selector
from composer_dataagent.signals import Signals, classification_signals

SELECTORS = ["data_agent", "random", "infobatch", "loss", "entropy", "reward", "ucb"]


@pytest.mark.parametrize("selector", SELECTORS)
def test_an_epoch_serves_the_selected_samples_once(make_trainer: Any, selector: str) -> None:
    recorder = Recorder()
    trainer = make_trainer(DataAgent(ratio=0.4, selector=selector), callbacks=[recorder], epochs=4)
    trainer.fit()
    first, *pruned = recorder.by_epoch()
    assert sorted(first) == list(range(NUM_SAMPLES))  # warm-up: everything
    for ids in pruned:
        assert len(ids) == len(set(ids)) == round(0.4 * NUM_SAMPLES)
    assert int(trainer.state.timestamp.sample) == NUM_SAMPLES + 3 * round(0.4 * NUM_SAMPLES)
    if selector != "ucb":  # greedy, and too few epochs for its estimates to move
        assert len({tuple(sorted(ids)) for ids in pruned}) > 1


def test_full_ratio_is_bit_identical_to_training_without(make_trainer: Any) -> None:
    plain = make_trainer(None, model=make_model(dropout=0.3))
    plain.fit()
    observed = make_trainer(DataAgent(ratio=1.0), model=make_model(dropout=0.3))
    observed.fit()
    for name, weight in weights_of(plain).items():
        assert torch.equal(weight, weights_of(observed)[name]), name


class Counted:
    """A classifier's signals; remembers for how many samples they were asked."""

    def __init__(self) -> None:
        self.samples = 0

    def __call__(self, outputs: Any, batch: Any) -> Signals:
        self.samples += len(outputs)
        return classification_signals(outputs, batch[1])


@pytest.mark.filterwarnings("ignore:SAM has known issues of weight mismatch")
def test_microbatches_and_sam_score_every_sample_once_at_the_first_pass(
    make_trainer: Any,
) -> None:
    losses, first_batch = {}, []
    for name, extra, microbatch in [("plain", [], 16), ("micro", [], 5), ("sam", [SAM()], 16)]:
        counted, recorder = Counted(), Recorder()
        agent = DataAgent(ratio=0.5, signals=counted)
        make_trainer(
            [*extra, agent], epochs=1, device_train_microbatch_size=microbatch, callbacks=[recorder]
        ).fit()
        assert (agent.ledger.visits == 1).all() and counted.samples == NUM_SAMPLES, name
        losses[name], first_batch = agent.ledger.loss, recorder.ids[0][1]
    np.testing.assert_allclose(losses["plain"], losses["micro"], rtol=1e-4, atol=1e-5)
    # SAM's second pass, at perturbed weights, would show in the very first batch.
    np.testing.assert_allclose(losses["plain"][first_batch], losses["sam"][first_batch], rtol=1e-5)


@pytest.mark.filterwarnings("ignore:SAM has known issues of weight mismatch")
def test_weights_apply_to_both_passes_of_sam(make_trainer: Any) -> None:
    """Weight 2 on everything is a doubled gradient in both passes, not in one."""

    @dataclass
    class Doubled(Selector):
        name = "doubled"
        summary = "everything, twice as much"

        def select(self, ledger: Any, size: int, rng: Any) -> Selection:
            return Selection(np.arange(NUM_SAMPLES), np.full(NUM_SAMPLES, self.weight, np.float32))

        weight: float = 1.0

    class Gradients(Callback):
        def __init__(self) -> None:
            self.norms: list[float] = []

        def after_backward(self, state: Any, logger: Any) -> None:
            parameters = state.model.parameters()
            self.norms.append(float(sum(p.grad.square().sum() for p in parameters)) ** 0.5)

    norms = {}
    for weight in (1.0, 2.0):
        gradients = Gradients()
        agent = DataAgent(ratio=1.0, selector=Doubled(weight))
        sam = SAM(rho=1e-6)  # both passes at nearly the same weights
        make_trainer([sam, agent], callbacks=[gradients], max_duration="1ba").fit()
        norms[weight] = gradients.norms
    assert len(norms[1.0]) == 2
    np.testing.assert_allclose(np.array(norms[2.0]), 2 * np.array(norms[1.0]), rtol=1e-3)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"preset": "paper"}, {"selector": "infobatch"}, {"state": "both"}],
    ids=str,
)
def test_no_step_waits_for_the_device(
    make_trainer: Any, no_host_sync: Any, arguments: dict[str, Any]
) -> None:
    """Between two updates of the agent, nothing is read back to the host."""

    class Watched(DataAgent):
        def apply(self, event: Event, state: Any, logger: Any) -> None:
            steps = (Event.BEFORE_TRAIN_BATCH, Event.BEFORE_FORWARD, Event.AFTER_FORWARD)
            if event in (*steps, Event.AFTER_TRAIN_BATCH):
                with no_host_sync():
                    super().apply(event, state, logger)
            else:
                super().apply(event, state, logger)

    make_trainer(Watched(ratio=0.5, **arguments), epochs=2).fit()


class LossCheck(Callback):
    """Recomputes a batch's per-sample loss with a second forward, before the weights move."""

    def __init__(self) -> None:
        self.expected: dict[int, float] = {}

    def before_train_batch(self, state: Any, logger: Any) -> None:
        inputs, targets = state.batch
        with torch.no_grad():
            logits = state.model.module(inputs)
        losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        ids = state.train_dataloader.sample_ids.tolist()
        self.expected.update(dict(zip(ids, losses.tolist(), strict=True)))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_ledger_holds_each_samples_own_loss(
    make_trainer: Any, shards: str, num_workers: int
) -> None:
    check = LossCheck()
    agent = DataAgent(ratio=0.5)
    loader = make_loader(shards, num_workers=num_workers)
    make_trainer(
        [LabelSmoothing(0.1), agent],
        loader=loader,
        callbacks=[check],
        epochs=2,
        device_train_microbatch_size=6,
    ).fit()
    expected = np.array([check.expected[i] for i in range(NUM_SAMPLES)])
    np.testing.assert_allclose(agent.ledger.loss, expected, rtol=1e-4, atol=1e-5)
    labels = torch.tensor([agent._loader.dataset[i][1] for i in range(NUM_SAMPLES)])
    assert (torch.from_numpy(agent.ledger.label) == labels).all()


@pytest.mark.parametrize(
    "arguments",
    [
        {"state": "features"},
        {"state": "both"},
        {"preset": "paper", "ratio": 0.6},
        {"selector": {"name": "data_agent", "explore": 8.0}},
        {"head": "module.4", "state": "features"},
        {"warmup_epochs": 0},
        {"anneal": 0.34},
        {"schedule": lambda epoch, progress: 1.0 if epoch % 2 == 0 else 0.3},
    ],
    ids=str,
)
def test_options_train(make_trainer: Any, arguments: dict[str, Any]) -> None:
    recorder = Recorder()
    agent = DataAgent(**{"ratio": 0.5, **arguments})
    make_trainer(agent, callbacks=[recorder], epochs=3).fit()
    sizes = [len(ids) for ids in recorder.by_epoch()]
    half = round(0.5 * NUM_SAMPLES + 0.01)
    expected = {
        "paper": [NUM_SAMPLES, round(0.6 * NUM_SAMPLES), round(0.6 * NUM_SAMPLES)],
        "warmup": [half, half, half],
        "anneal": [NUM_SAMPLES, half, NUM_SAMPLES],
        "schedule": [NUM_SAMPLES, round(0.3 * NUM_SAMPLES), NUM_SAMPLES],
    }
    for key, value in expected.items():
        if any(key in name or key == argument for name, argument in arguments.items()):
            assert sizes == value
            break
    else:
        assert sizes == [NUM_SAMPLES, half, half]


def test_infobatch_weights_reach_the_gradient(make_trainer: Any) -> None:
    """A weight of w equals w copies of the sample's loss: checked on the accumulated gradient."""

    class Gradients(Callback):
        def __init__(self) -> None:
            self.worst = 0.0
            self.weighted_batches = 0

        def after_train_batch(self, state: Any, logger: Any) -> None:
            if int(state.timestamp.epoch) == 0:
                return
            inputs, targets = state.batch
            agent = next(a for a in state.algorithms if isinstance(a, DataAgent))
            assert agent._selection is not None and agent._selection.weights is not None
            rows = np.searchsorted(agent._selection.ids, state.train_dataloader.sample_ids.numpy())
            weights = torch.from_numpy(agent._selection.weights[rows])
            self.weighted_batches += int((weights != 1).any())
            losses = torch.nn.functional.cross_entropy(
                state.model.module(inputs), targets, reduction="none"
            )
            parameters = list(state.model.parameters())
            wanted = torch.autograd.grad((weights * losses).mean(), parameters)
            for parameter, gradient in zip(parameters, wanted, strict=True):
                difference = (parameter.grad - gradient).abs().max()
                self.worst = max(self.worst, float(difference / gradient.abs().max()))

    gradients = Gradients()
    make_trainer(
        DataAgent(ratio=0.5, selector="infobatch"),
        callbacks=[gradients],
        epochs=2,
        device_train_microbatch_size=8,
    ).fit()
    assert gradients.weighted_batches > 0
    assert gradients.worst < 1e-4


def test_facts_reach_loggers_and_history(make_trainer: Any, run_dir: str, shards: str) -> None:
    logger = InMemoryLogger()
    names = [f"digit {i}" for i in range(10)]
    agent = DataAgent(ratio=0.5, run_dir=run_dir, class_names=names, update_interval=3)
    trainer = make_trainer(
        agent, loggers=[logger], epochs=3, eval_dataloader=make_loader(shards, drop_last=False)
    )
    trainer.fit()
    run = read_run(run_dir)
    assert run.meta["num_samples"] == NUM_SAMPLES and run.meta["class_names"] == names
    assert [row["epoch"] for row in run.rows] == [0, 1, 2]
    half = round(NUM_SAMPLES / 2 + 0.01)
    assert [row["selected"] for row in run.rows] == [NUM_SAMPLES, half, half]
    last = run.rows[-1]
    assert last["samples_seen"] == NUM_SAMPLES + 2 * half
    assert last["coverage"] == 1.0
    assert sum(last["class_selected"].values()) == half
    assert sum(last["class_total"].values()) == NUM_SAMPLES
    assert sum(last["action_histogram"]) == half
    assert 0 < last["metrics"]["eval/MulticlassAccuracy"] <= 1
    assert {"approx_kl", "clip_fraction", "explained_variance", "entropy"} <= set(last["ppo"])
    assert 0 < last["agent_seconds"] < last["seconds"]
    assert logger.data["data_agent/ratio"][-1][1] == pytest.approx(half / NUM_SAMPLES)
    assert len(logger.data["data_agent/reward"]) == 3
    assert (run.ledger["visits"] >= 1).all()


def test_composes_with_label_smoothing_and_ema(make_trainer: Any) -> None:
    recorder = Recorder()
    make_trainer(
        [DataAgent(ratio=0.5), LabelSmoothing(0.1), EMA(half_life="20ba")], callbacks=[recorder]
    ).fit()
    assert [len(ids) for ids in recorder.by_epoch()][1:] == [102, 102]


def test_learning_rate_ends_at_its_end_in_spite_of_short_epochs(make_trainer: Any) -> None:
    recorder = Recorder()
    make_trainer(DataAgent(ratio=0.3), callbacks=[recorder], epochs=6).fit()
    rates = recorder.learning_rates
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.02 * rates[0]


def test_a_second_fit_goes_on(make_trainer: Any) -> None:
    recorder = Recorder()
    trainer = make_trainer(DataAgent(ratio=0.5), callbacks=[recorder], epochs=2)
    trainer.fit()
    trainer.fit(duration="2ep")
    assert [len(ids) for ids in recorder.by_epoch()] == [NUM_SAMPLES, 102, 102, 102]


def test_a_second_fit_in_other_units_keeps_the_history(make_trainer: Any, run_dir: str) -> None:
    trainer = make_trainer(DataAgent(run_dir=run_dir), max_duration="5ba")
    trainer.fit()  # stops inside the first epoch
    trainer.fit(duration="2ep")
    epochs = [row["epoch"] for row in read_run(run_dir).rows]
    assert epochs[:2] == [0, 1]
    assert len(set(epochs)) == len(epochs)


def test_ignored_labels_count_as_settled(make_trainer: Any) -> None:
    """-100, which torch's cross entropy leaves out of the mean."""
    loader = make_trainer().state.train_dataloader
    loader.collate_fn = _ignoring_label_3
    agent = DataAgent(state="both")
    make_trainer(agent, loader=loader, epochs=2).fit()
    ignored = agent.ledger.label == -1
    assert 0 < ignored.sum() < len(ignored) / 2
    assert (agent.ledger.loss[ignored] == 0).all()
    assert (agent.ledger.loss[~ignored] > 0).all()


def _ignoring_label_3(samples: list[Any]) -> Any:
    x, y = default_collate(samples)
    return x, torch.where(y == 3, -100, y)
