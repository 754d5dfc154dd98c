# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Signals are found in what real models give, and where they are not, the error shows the way."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from composer.models import ComposerClassifier, HuggingFaceModel
from model_families import tiny_bert
from torch import Tensor, nn
from transformers import BatchEncoding

from composer_dataagent.signals import Signals, classification_signals, detect_signals

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.5, 0.0]])
LABELS = torch.tensor([0, 2])
EXPECTED = classification_signals(LOGITS, LABELS)


def assert_same(signals: Signals, expected: Signals) -> None:
    for name, column in vars(expected).items():
        assert torch.equal(getattr(signals, name), column)


def classifier() -> ComposerClassifier:
    return ComposerClassifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), num_classes=3)


@pytest.mark.parametrize(
    "outputs",
    [LOGITS, {"logits": LOGITS, "loss": None}, SimpleNamespace(logits=LOGITS, loss=None)],
    ids=["tensor", "mapping", "attribute"],
)
@pytest.mark.parametrize(
    "batch",
    [
        (torch.zeros(2, 4), LABELS),
        [torch.zeros(2, 4), LABELS],
        {"pixels": torch.zeros(2, 4), "labels": LABELS},
        {"pixels": torch.zeros(2, 4), "label": LABELS},
        BatchEncoding({"input_ids": torch.zeros(2, 4), "labels": LABELS}),
    ],
    ids=["tuple", "list", "labels", "label", "BatchEncoding"],
)
def test_forms_that_are_understood(outputs: Any, batch: Any) -> None:
    assert_same(detect_signals(classifier())(outputs, batch), EXPECTED)


def test_a_composer_classifier() -> None:
    model = classifier()
    batch = (torch.randn(5, 3, 4), torch.tensor([0, 1, 2, 1, 0]))
    outputs = model(batch)
    signals = detect_signals(model)(outputs, batch)
    assert_same(signals, classification_signals(outputs, batch[1]))
    # The mean of what is remembered of the samples is what is trained on.
    torch.testing.assert_close(signals.loss.mean(), model.loss(outputs, batch).detach())


def test_a_hugging_face_sequence_classifier() -> None:
    model = HuggingFaceModel(tiny_bert(num_labels=4))
    batch = {
        "input_ids": torch.arange(12).reshape(3, 4),
        "attention_mask": torch.ones(3, 4, dtype=torch.long),
        "labels": torch.tensor([3, 0, 1]),
    }
    outputs = model(batch)
    signals = detect_signals(model)(outputs, batch)
    assert_same(signals, classification_signals(outputs.logits, batch["labels"]))
    torch.testing.assert_close(signals.loss.mean(), outputs.loss.detach())


@pytest.mark.parametrize(
    ("outputs", "batch", "message"),
    [
        (
            (LOGITS, LOGITS),
            (torch.zeros(2), LABELS),
            r"outputs are tuple of \(a tensor \[2, 3\] torch.float32, a tensor \[2, 3\]",
        ),
        (LOGITS, LABELS, r"the batch is a tensor \[2\] torch.int64"),
        (LOGITS, {"x": LABELS, "y": "z"}, r"\{'x': a tensor \[2\] torch.int64, 'y': str\}"),
        (LOGITS, (LABELS, LABELS, LABELS), r"the batch is tuple of"),
        ({"prediction": LOGITS}, (LABELS, LABELS), r"outputs are \{'prediction': a tensor"),
        (None, None, r"outputs are NoneType and the batch is NoneType"),
    ],
)
def test_other_forms_are_described(outputs: Any, batch: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"from ComposerClassifier: .*{message}"):
        detect_signals(classifier())(outputs, batch)


@pytest.mark.parametrize(
    ("outputs", "batch", "message"),
    [
        (torch.zeros(2, 5, 9), (LABELS, torch.zeros(2, 5).long()), r"logits \[2, 5, 9\]"),  # tokens
        (torch.zeros(2, 1), (LABELS, torch.zeros(2)), r"C >= 2, got logits \[2, 1\]"),  # regression
        (LOGITS, {"labels": torch.zeros(2, 2).long()}, r"targets \[2, 2\]"),
    ],
)
def test_other_shapes_are_described(outputs: Any, batch: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"from ComposerClassifier: .*{message}"):
        detect_signals(classifier())(outputs, batch)


def test_the_function_that_the_error_shows_works_as_it_stands() -> None:
    with pytest.raises(TypeError) as caught:
        detect_signals(classifier())((LOGITS, "attention"), (torch.zeros(2, 4), LABELS))
    message = str(caught.value)
    assert "DataAgent(signals=my_signals)" in message
    imports = re.search(r"\((from composer_dataagent.signals import [\w, ]+)\)", message)
    code = re.search(r"(?ms)^    def my_signals.*?\n\n", message)
    assert imports is not None and code is not None
    names: dict[str, Any] = {}
    exec(f"{imports[1]}\n{textwrap.dedent(code[0])}", names)
    my_signals: Callable[[Tensor, Any], Signals] = names["my_signals"]
    assert_same(my_signals(LOGITS, (torch.zeros(2, 4), LABELS)), EXPECTED)
