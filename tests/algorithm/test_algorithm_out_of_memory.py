# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A batch that is tried again in smaller microbatches is scored once, and as if it had fitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from composer.core import Callback
from composer.models import ComposerClassifier
from digits_run import (
    CLASSES,
    NUM_SAMPLES,
    Recorder,
    StoredDigits,
    build_trainer,
    make_loader,
    make_model,
    weights_of,
)
from grid_marks import grid
from same_states import assert_same
from small_memory import SmallMemory
from torch import Tensor, nn
from torch.nn import functional as F

from composer_dataagent import DataAgent

pytestmark = pytest.mark.filterwarnings("ignore:CUDA out of memory or excessive:RuntimeWarning")

# Batches of 16: 0 to 12 are the full first epoch, 13 to 19 the second.
FIRST, LAST, MIDDLE, LAST_PRUNED = 0, 12, 16, 19
AGENTS: dict[str, dict[str, Any]] = {
    "signals": {},
    "features": {"state": "features"},
    "paper": {"preset": "paper"},  # gradient weights, too: 1 / ratio
    "infobatch": {"selector": "infobatch"},
}
FAILURES = [
    ("forward", (FIRST,)),
    ("backward", (FIRST,)),
    ("forward", (LAST,)),
    ("backward", (MIDDLE,)),
    ("forward", (LAST_PRUNED,)),
    ("backward", (2, MIDDLE)),  # 16, then 4, then 1
]
# Each failure with one agent, and with each of the others the one that shrinks batches twice.
ALWAYS = [("signals", *failure) for failure in FAILURES] + [(a, *FAILURES[-1]) for a in AGENTS]


class Check(Callback):
    """Recomputes each batch from the data set, by the ids that the loader names.

    ``state.batch`` would not do: after a retry it is left at a microbatch of the failed attempt.
    """

    def __init__(self) -> None:
        self.x, self.y = StoredDigits().x, torch.tensor(StoredDigits().y)
        self.losses = np.full(NUM_SAMPLES, np.nan, np.float32)
        self.gradient_error = 0.0
        self.weighted: list[int] = []

    def _losses(self, state: Any, ids: Tensor) -> Tensor:
        plain = state.model.module[:-1]  # without the layer that fails
        return F.cross_entropy(plain(self.x[ids]), self.y[ids], reduction="none")

    def before_train_batch(self, state: Any, logger: Any) -> None:
        ids = state.train_dataloader.sample_ids
        with torch.no_grad():
            self.losses[ids.numpy()] = self._losses(state, ids).numpy()

    def after_train_batch(self, state: Any, logger: Any) -> None:
        ids = state.train_dataloader.sample_ids
        (agent,) = state.algorithms
        weights = torch.ones(len(ids))
        if agent._weights is not None:
            rows = np.searchsorted(agent._selected.ids, ids.numpy())
            weights = torch.from_numpy(agent._weights[rows])
            if (weights != 1).any():
                self.weighted.append(int(state.timestamp.batch))
        parameters = list(state.model.parameters())
        wanted = torch.autograd.grad((weights * self._losses(state, ids)).mean(), parameters)
        for parameter, gradient in zip(parameters, wanted, strict=True):
            difference = (parameter.grad - gradient).abs().max() / gradient.abs().max()
            self.gradient_error = max(self.gradient_error, float(difference))


class Outcome:
    """What a run of two epochs left."""

    def __init__(self, make_trainer: Any, shards: str, name: str, memory: SmallMemory) -> None:
        torch.manual_seed(3)
        net = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, CLASSES), memory.layer
        )
        self.agent = DataAgent(ratio=0.5, update_interval=3, **AGENTS[name])
        self.recorder, self.check, self.memory = Recorder(), Check(), memory
        self.trainer = make_trainer(
            self.agent,
            model=ComposerClassifier(net, num_classes=CLASSES),
            loader=make_loader(shards),
            callbacks=[memory, self.recorder, self.check],
            epochs=2,
            device_train_microbatch_size=16,
        )
        memory.attach(self.trainer)
        self.trainer.fit()


@pytest.fixture(scope="session")
def without_failure(shards: str) -> Callable[..., Outcome]:
    """Runs whose microbatches shrink where others' do, but in which nothing failed."""
    outcomes: dict[Any, Outcome] = {}

    def factory(algorithms: Any, *, loader: Any, **kwargs: Any) -> Any:
        return build_trainer(loader, algorithms, **kwargs)

    def get(name: str, batches: tuple[int, ...]) -> Outcome:
        if (name, batches) not in outcomes:
            memory = SmallMemory(batches, "nowhere")
            outcomes[name, batches] = Outcome(factory, shards, name, memory)
            outcomes[name, batches].trainer.close()
        return outcomes[name, batches]

    return get


@pytest.mark.parametrize(
    ("name", "where", "batches"),
    grid(((name, *failure) for name in AGENTS for failure in FAILURES), ALWAYS),
)
def test_a_run_that_ran_out_of_memory_equals_one_that_did_not(
    make_trainer: Any,
    shards: str,
    without_failure: Callable[..., Outcome],
    name: str,
    batches: tuple[int, ...],
    where: str,
) -> None:
    run = Outcome(make_trainer, shards, name, SmallMemory(batches, where))
    tries = [run.memory.attempts[batch] for batch in range(20)]
    assert tries == [3 if batch in batches else 1 for batch in range(20)]
    size = run.trainer.state.device_train_microbatch_size
    assert size == 16 // 4 ** len(batches)

    # Each sample once for each epoch that served it, with its own loss at that moment.
    ledger, epochs = run.agent.ledger, run.recorder.by_epoch()
    assert sorted(epochs[0]) == list(range(NUM_SAMPLES)) and len(epochs[1]) == 102
    assert (ledger.visits == 1 + np.isin(np.arange(NUM_SAMPLES), epochs[1])).all()
    np.testing.assert_allclose(ledger.loss, run.check.losses, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ledger.label, run.check.y.numpy())
    # Each sample's gradient with its own weight.
    assert run.check.gradient_error < 1e-3
    weighted = list(range(13, 20)) if name in ("paper", "infobatch") else []
    assert run.check.weighted == weighted

    whole = without_failure(name, batches)
    assert run.recorder.ids == whole.recorder.ids
    assert_same(run.agent.state_dict(), whole.agent.state_dict())
    assert_same(weights_of(run.trainer), weights_of(whole.trainer))


@pytest.mark.parametrize("name", AGENTS)
def test_a_batch_that_was_done_before_the_optimizer_ran_out_of_memory(
    make_trainer: Any, shards: str, name: str
) -> None:
    run = Outcome(make_trainer, shards, name, SmallMemory((FIRST, LAST_PRUNED), "step"))
    tries = [run.memory.attempts[batch] for batch in range(20)]
    assert tries == [3 if batch in (FIRST, LAST_PRUNED) else 1 for batch in range(20)]
    served = np.isin(np.arange(NUM_SAMPLES), run.recorder.by_epoch()[1])
    assert (run.agent.ledger.visits == 1 + served).all()
    np.testing.assert_allclose(run.agent.ledger.loss, run.check.losses, rtol=1e-4, atol=1e-5)
    # Also when it came again, in smaller microbatches.
    assert run.check.gradient_error < 1e-3


def test_a_device_that_cannot_hold_one_sample_ends_the_run(make_trainer: Any) -> None:
    memory = SmallMemory((MIDDLE,), "forward")
    memory.failing = 9
    model = make_model()
    model.module.append(memory.layer)  # type: ignore[operator]
    agent = DataAgent()
    trainer = make_trainer(
        agent, model=model, callbacks=[memory], epochs=2, device_train_microbatch_size=16
    )
    memory.attach(trainer)
    with pytest.raises(RuntimeError, match="microbatch of size 1"):
        trainer.fit()
    assert memory.attempts[MIDDLE] == 5
