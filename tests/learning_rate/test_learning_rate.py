# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A schedule follows the share of training done, however many batches an epoch keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from composer.core import Callback
from composer.optim import (
    CosineAnnealingScheduler,
    CosineAnnealingWithWarmupScheduler,
    ExponentialScheduler,
    LinearScheduler,
    LinearWithWarmupScheduler,
    MultiStepScheduler,
    PolynomialScheduler,
    StepScheduler,
)
from digits_run import NUM_SAMPLES, build_trainer, make_loader, write_shards
from torch.optim import lr_scheduler

from composer_dataagent import DataAgent

EPOCHS, BATCH_SIZE = 5, 16
FULL = -(-NUM_SAMPLES // BATCH_SIZE)  # 13 batches in a full epoch
TOTAL = EPOCHS * FULL
RATIO = 0.4  # 6 batches


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_shards(str(tmp_path_factory.mktemp("digits")))


COMPOSER: dict[str, Callable[[Any], float]] = {
    "cosine": CosineAnnealingScheduler(),
    "cosine ep": CosineAnnealingScheduler(t_max=f"{EPOCHS}ep"),
    "cosine ba": CosineAnnealingScheduler(t_max=f"{TOTAL}ba"),
    "cosine sp": CosineAnnealingScheduler(t_max=f"{EPOCHS * NUM_SAMPLES}sp"),
    "cosine warm ep": CosineAnnealingWithWarmupScheduler(t_warmup="1ep"),
    "linear": LinearScheduler(alpha_f=0.0),
    "linear warm dur": LinearWithWarmupScheduler(t_warmup="0.2dur"),
    "polynomial": PolynomialScheduler(power=2.0),
    "step ep": StepScheduler(step_size="2ep"),
    "exponential": ExponentialScheduler(gamma=0.5, decay_period="1ep"),
    "multistep ep": MultiStepScheduler(milestones=["2ep", "4ep"]),
    "multistep ba": MultiStepScheduler(milestones=["20ba", "50ba"]),
    "multistep sp": MultiStepScheduler(milestones=["300sp", "800sp"]),
    "multistep dur": MultiStepScheduler(milestones=["0.3dur", "0.8dur"]),
    "a function": lambda state: 1.0 if state.timestamp.epoch < 3 else 0.1,
}
NATIVE: dict[str, Callable[[torch.optim.Optimizer, int], lr_scheduler.LRScheduler]] = {
    "one-cycle": lambda o, steps: lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=steps + 1),
    "torch cosine": lambda o, steps: lr_scheduler.CosineAnnealingLR(o, T_max=steps),
    "torch linear": lambda o, steps: lr_scheduler.LinearLR(o, 1.0, 0.01, total_iters=steps),
    "torch multistep": lambda o, steps: lr_scheduler.MultiStepLR(o, [steps // 3, steps // 2]),
    "torch lambda": lambda o, steps: lr_scheduler.LambdaLR(o, lambda step: 1 - step / (steps + 1)),
}
Rates = dict[str, list[float]]


class Probe(Callback):
    """Runs all schedulers side by side in one training run and records what they give.

    Composer's are functions of the state, called where Composer calls a scheduler. A native one
    steps an optimizer of its own.
    """

    def __init__(self, native_steps: int) -> None:
        self.rates: Rates = {name: [] for name in [*COMPOSER, *NATIVE]}
        self.native = {}
        for name, make in NATIVE.items():
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
            self.native[name] = make(optimizer, native_steps)
            optimizer.step()
        self.ready = False

    def __call__(self, state: Any) -> float:
        if self.ready:  # not at construction
            for name, scheduler in COMPOSER.items():
                # Composer refuses a warm-up in other units than max_duration's.
                if "warm" not in name or state.max_duration.unit.value != "sp":
                    self.rates[name].append(scheduler(state))
        return 1.0

    def fit_start(self, state: Any, logger: Any) -> None:
        self.ready = True

    def record_native(self) -> None:
        for name, scheduler in self.native.items():
            self.rates[name].append(scheduler.optimizer.param_groups[0]["lr"])

    def batch_end(self, state: Any, logger: Any) -> None:
        # A native scheduler of several steps at once calls ours as often: the last one counts.
        self.record_native()


def train(
    shards: str,
    ratio: float | None,
    max_duration: str = f"{EPOCHS}ep",
    every_batch: bool = True,
    ratios: list[float] | None = None,
    algorithm: type[DataAgent] = DataAgent,
) -> Rates:
    """Train and record; ``ratio=None`` is stock Composer without the algorithm."""
    probe = Probe(TOTAL if every_batch else EPOCHS)
    agent = None
    if ratio is not None:
        agent = algorithm(ratio=ratio, selector="random")
        if ratios is not None:
            agent.schedule = lambda epoch, _: ratios[min(epoch, len(ratios) - 1)]
    trainer = build_trainer(
        make_loader(shards, batch_size=BATCH_SIZE),
        agent,
        callbacks=[probe],
        schedulers=[*probe.native.values(), lambda state: probe(state)],
        max_duration=max_duration,
        step_schedulers_every_batch=every_batch,
    )
    trainer.fit()
    trainer.close()
    return probe.rates


def lengths_of(ratios: list[float]) -> list[int]:
    return [-(-int(ratio * NUM_SAMPLES + 0.5) // BATCH_SIZE) for ratio in ratios]


def monotone(rates: list[float]) -> bool:
    ordered = sorted(rates)
    return rates in (ordered, ordered[::-1])


RATIOS = {"pruned": [1.0, 0.4, 0.4, 0.4, 0.4], "shrinks and grows": [1.0, 0.4, 0.9, 0.2, 1.0]}


@pytest.fixture(scope="module")
def runs(shards: str) -> dict[str, Rates]:
    """Stock Composer, and the algorithm with nothing pruned, with pruning, and up and down."""
    return {
        "stock": train(shards, None),
        "full": train(shards, 1.0),
        "pruned": train(shards, 0.4),
        "shrinks and grows": train(shards, 0.4, ratios=RATIOS["shrinks and grows"]),
    }


@pytest.mark.parametrize("name", [*COMPOSER, *NATIVE])
def test_bit_identical_to_stock_while_nothing_is_pruned(runs: dict[str, Rates], name: str) -> None:
    assert len(runs["stock"][name]) == TOTAL
    assert runs["full"][name] == runs["stock"][name]


@pytest.mark.parametrize("run", RATIOS)
@pytest.mark.parametrize("name", [*COMPOSER, *NATIVE])
def test_a_pruned_run_follows_the_full_one(runs: dict[str, Rates], name: str, run: str) -> None:
    stock, pruned, lengths = runs["stock"][name], runs[run][name], lengths_of(RATIOS[run])
    if name in COMPOSER:
        # Recorded at each of the steps that a native scheduler takes, always at the last time.
        assert len(pruned) == TOTAL
        pruned = [
            pruned[epoch * FULL + (batch + 1) * FULL // length - 1]
            for epoch, length in enumerate(lengths)
            for batch in range(length)
        ]
    assert len(pruned) == sum(lengths)
    expected = [
        stock[epoch * FULL + (batch + 1) * FULL // length - 1]
        for epoch, length in enumerate(lengths)
        for batch in range(length)
    ]
    assert pruned == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert pruned[-1] == pytest.approx(stock[-1], rel=1e-6, abs=1e-9)
    assert monotone(pruned) or not monotone(stock)


def test_stock_composer_jumps(shards: str) -> None:
    """What this room is for: the same run, its schedulers left alone, is not monotone."""

    class LeftAlone(DataAgent):
        def apply(self, event: Any, state: Any, logger: Any) -> None:
            stock = [type(scheduler) for scheduler in state.schedulers]
            super().apply(event, state, logger)
            for scheduler, cls in zip(state.schedulers, stock, strict=True):
                scheduler.__class__ = cls

    rates = train(shards, 0.4, ratios=RATIOS["shrinks and grows"], algorithm=LeftAlone)
    assert not monotone(rates["cosine"])
    assert rates["one-cycle"][-1] > 0.1  # and a native one does not finish


@pytest.mark.parametrize("max_duration", ["40ba", "600sp"])
def test_runs_that_are_not_measured_in_epochs(shards: str, max_duration: str) -> None:
    rates = train(shards, 0.4, max_duration)
    for name in ("cosine", "linear", "multistep dur", "multistep ep", "polynomial", "step ep"):
        assert monotone(rates[name]), name
    for name in ("cosine", "linear"):
        assert rates[name][-1] < 0.1 * rates[name][0], name


def test_schedulers_stepped_once_an_epoch_are_stepped_once_an_epoch(shards: str) -> None:
    stock = train(shards, None, every_batch=False)
    pruned = train(shards, 0.4, every_batch=False)
    for name in COMPOSER:
        assert len(pruned[name]) == EPOCHS
        assert pruned[name] == pytest.approx(stock[name], rel=1e-6, abs=1e-9), name
    for name in NATIVE:
        # One value a batch: the rate of its epoch.
        assert list(dict.fromkeys(pruned[name])) == list(dict.fromkeys(stock[name])), name
