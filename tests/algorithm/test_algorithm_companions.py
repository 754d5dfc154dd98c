# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What cannot run beside DataAgent is refused early, with the reason and the way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from companion_runs import bert, cnn, image_loader, run, text_loader
from composer.algorithms import (
    Alibi,
    CutMix,
    GhostBatchNorm,
    GyroDropout,
    MixUp,
    SelectiveBackprop,
    SeqLengthWarmup,
)
from composer.core import Algorithm, Callback

pytestmark = pytest.mark.filterwarnings("ignore:GyroDropout is not implemented:UserWarning")


class NoStep(Callback):
    """Fails if any batch is trained on: the errors must come earlier."""

    def batch_start(self, state: Any, logger: Any) -> None:
        raise AssertionError("a batch was trained on before the error")


@pytest.mark.parametrize("agent_first", [True, False])
@pytest.mark.parametrize(
    ("companions", "message"),
    [
        (lambda: [SelectiveBackprop()], r"SelectiveBackprop.*drops samples.*remove one"),
        (lambda: [SeqLengthWarmup(truncate=False)], r"truncate=False.*rows.*use truncate=True"),
        (lambda: [Alibi(16)], r"Alibi\(.*=0\.25\).*rows.*use train_sequence_length_scaling=1"),
        (lambda: [MixUp(), CutMix()], r"MixUp and CutMix at once.*keep one of them"),
    ],
    ids=["SelectiveBackprop", "SeqLengthWarmup", "Alibi", "MixUp and CutMix"],
)
def test_rows_that_are_no_longer_samples(
    companions: Callable[[], list[Algorithm]], message: str, agent_first: bool
) -> None:
    with pytest.raises(ValueError, match=message):
        run(companions(), model=bert(), loader=text_loader(), agent_first=agent_first)


NEEDS = r".* no multiple of the batch size ends with fewer: use drop_last=True"
ANY: dict[str, Any] = {"schedule": lambda epoch, progress: 0.5}


@pytest.mark.parametrize("agent_first", [True, False])
@pytest.mark.parametrize(
    ("companion", "agent", "trainer", "message"),
    [
        # 75 samples end with 11, 38 with 6.
        (lambda: GhostBatchNorm(8), {}, {}, "GhostBatchNorm needs at least ghost_batch_size=8"),
        (lambda: GhostBatchNorm(4), ANY, {}, "GhostBatchNorm needs at least ghost_batch_size=4"),
        (
            lambda: GhostBatchNorm(4),
            {},
            {"device_train_microbatch_size": 4},
            "GhostBatchNorm needs at least ghost_batch_size=4",
        ),
        (lambda: GyroDropout(sigma=4, tau=2), {}, {}, "GyroDropout needs a multiple of tau=2"),
        (lambda: GyroDropout(sigma=4, tau=2), ANY, {}, "GyroDropout needs a multiple of tau=2"),
    ],
)
def test_batches_that_a_pruned_epoch_ends_with(
    companion: Callable[[], Algorithm],
    agent: dict[str, Any],
    trainer: dict[str, Any],
    message: str,
    agent_first: bool,
) -> None:
    arguments = {"agent": agent, "agent_first": agent_first, **trainer}
    model = cnn(dropout=True)
    with pytest.raises(ValueError, match=message + NEEDS):
        run([companion()], model=model, callbacks=[NoStep()], **arguments)
    run([companion()], model=cnn(dropout=True), loader=image_loader(drop_last=True), **arguments)


def test_what_fits_the_last_batches_is_not_refused() -> None:
    run([GyroDropout(sigma=4, tau=2)], model=cnn(dropout=True), agent={"warmup_epochs": 0})
    run([GhostBatchNorm(6)])


def test_a_warm_up_that_has_more_stages_than_a_pruned_run_has_steps() -> None:
    warmup = {"duration": 0.3, "min_seq_length": 4, "max_seq_length": 12, "step_size": 4}
    with pytest.raises(ValueError, match=r"SeqLengthWarmup has 2 stages.* of 3 batches .* 1 steps"):
        run(
            [SeqLengthWarmup(**warmup)],
            model=bert(),
            loader=text_loader(column=True),
            callbacks=[NoStep()],
        )
    # An epoch in two rounds has more batches, since each ends with a ragged one: all of them count.
    run(
        [SeqLengthWarmup(**warmup)],
        model=bert(),
        loader=text_loader(column=True),
        agent={"interval": "0.5ep"},
        head="model.classifier",
    )


@pytest.mark.parametrize(("name", "attribute"), [("MixUp", "mixing"), ("CutMix", "_indices")])
def test_a_composer_that_keeps_the_mixing_elsewhere(name: str, attribute: str) -> None:
    companion = {"MixUp": MixUp, "CutMix": CutMix}[name]()
    delattr(companion, attribute)
    with pytest.raises(RuntimeError, match=rf"{name} mixes.*no {attribute}: use Composer 0\.32"):
        run([companion])
