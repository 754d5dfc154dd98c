# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""In mixed precision, a sample is scored with what its half-precision pass showed, in float32.

Composer refuses any precision but fp32 on a CPU, so that here it is the model, or whoever calls
``fit()``, that enters autocast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from companion_checks import check_ids, check_ledger, check_same, expected_of
from companion_runs import CLASSES, LABELS, bert, cnn, image_loader, run, signals_of, text_loader
from composer.models import ComposerClassifier, ComposerModel, HuggingFaceModel
from same_states import assert_same
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader


def half() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


class HalfClassifier(ComposerClassifier):
    def forward(self, batch: Any) -> Any:
        with half():
            return super().forward(batch)


class HalfBert(HuggingFaceModel):
    def forward(self, batch: Any) -> Any:
        with half():
            return super().forward(batch)


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """The same inside and outside of autocast."""
    return F.cross_entropy(logits.float(), targets)


def classifier(cls: type[ComposerClassifier]) -> ComposerModel:
    return cls(cnn().module, num_classes=CLASSES, loss_fn=loss_of)


@pytest.mark.parametrize(
    ("full_model", "half_model", "loader", "arguments"),
    [
        (
            lambda: classifier(ComposerClassifier),
            lambda: classifier(HalfClassifier),
            image_loader,
            {"device_train_microbatch_size": 5},
        ),
        (bert, lambda: HalfBert(bert().model), text_loader, {"head": "model.classifier"}),
    ],
    ids=["cnn", "bert"],
)
def test_what_a_half_precision_pass_showed_is_scored_in_float32(
    full_model: Callable[[], ComposerModel],
    half_model: Callable[[], ComposerModel],
    loader: Callable[[], DataLoader],
    arguments: dict[str, Any],
) -> None:
    halved, full = (
        run([], model=make(), loader=loader(), agent={"state": "both"}, **arguments)
        for make in (half_model, full_model)
    )
    for batch, (signals, features) in zip(halved.account.batches, halved.read, strict=True):
        logits, entered = torch.cat(batch.logits), torch.cat(batch.features)
        assert logits.dtype == entered.dtype == torch.bfloat16
        torch.testing.assert_close(features, entered.float(), rtol=0, atol=0)
        for name, expected in signals_of(logits, LABELS[batch.ids]).items():
            torch.testing.assert_close(getattr(signals, name), expected.float())
    check_ids(halved)
    check_ledger(halved, expected_of(halved.account))
    # Of the first batch alone: later ones have other weights.
    (signals, features), (expected, exact) = halved.read[0], full.read[0]
    for name in ("loss", "entropy", "max_prob"):
        close, wanted = getattr(signals, name), getattr(expected, name)
        torch.testing.assert_close(close, wanted, rtol=0, atol=0.02)
    assert features is not None and exact is not None
    torch.testing.assert_close(features, exact, rtol=0.02, atol=0.02)
    assert not torch.equal(features, exact)


@pytest.mark.parametrize(
    "agent",
    [{"state": "both"}, {"preset": "paper"}, {"selector": "infobatch", "state": "signals"}],
    ids=str,
)
def test_the_agent_itself_keeps_to_float32(agent: dict[str, Any]) -> None:
    """Autocast around ``fit()`` is that of the model: the same run, to the last bit."""
    inside = run([], model=classifier(HalfClassifier), agent=agent)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):  # it keeps first weights
        around = run([], model=classifier(ComposerClassifier), agent=agent)
    check_same(inside, around)
    a, b = (
        {name: outcome.agent.state_dict()[name] for name in ("learner", "score")}
        | {"model": dict(outcome.model.state_dict())}
        for outcome in (inside, around)
    )
    assert_same(a, b)
