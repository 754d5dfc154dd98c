# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Per-sample loss and entropy, held against a plain reference in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.nn import functional as F

from composer_dataagent.signals import Signals, classification_signals

COLUMNS = ("loss", "entropy", "max_prob")


def reference(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """What the formulas say, sample by sample and class by class."""
    rows: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for row, target in zip(logits.double().tolist(), targets.tolist(), strict=True):
        top = max(row)
        total = math.fsum(math.exp(x - top) for x in row)
        log_prob = [x - top - math.log(total) for x in row]
        prob = [math.exp(x) for x in log_prob]
        weights = (
            target if isinstance(target, list) else [float(c == target) for c in range(len(row))]
        )
        rows["loss"].append(-math.fsum(w * x for w, x in zip(weights, log_prob, strict=True) if w))
        entropy = -math.fsum(p * x for p, x in zip(prob, log_prob, strict=True) if p)
        rows["entropy"].append(entropy / math.log(len(row)))
        rows["max_prob"].append(max(prob))
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in rows.items()}


def assert_is_reference(signals: Signals, logits: Tensor, targets: Tensor) -> None:
    for name, expected in reference(logits, targets).items():
        got = getattr(signals, name)
        assert got.dtype == torch.float32 and got.shape == expected.shape and not got.requires_grad
        torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-5)


@given(
    data=st.data(),
    shape=st.tuples(st.integers(1, 6), st.integers(2, 12)),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    label_dtype=st.sampled_from([torch.int64, torch.int32, torch.uint8]),
)
def test_signals_equal_the_reference(
    data: st.DataObject, shape: tuple[int, int], dtype: torch.dtype, label_dtype: torch.dtype
) -> None:
    logits = torch.from_numpy(
        data.draw(arrays(np.float32, shape, elements=st.floats(-60, 60, width=32)))
    ).to(dtype)
    labels = data.draw(arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))
    targets = torch.from_numpy(labels).to(label_dtype)
    signals = classification_signals(logits, targets)
    assert_is_reference(signals, logits, targets)
    assert signals.label is not None and signals.label.dtype == torch.int64
    assert signals.label.tolist() == labels.tolist()
    assert ((signals.entropy >= 0) & (signals.entropy <= 1)).all()
    torch.testing.assert_close(
        signals.target_prob, logits.float().softmax(1)[range(shape[0]), labels]
    )


def test_the_loss_is_the_models_own() -> None:
    logits = 5 * torch.randn(64, 1000, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(64)
    signals = classification_signals(logits, targets)
    torch.testing.assert_close(signals.loss, F.cross_entropy(logits, targets, reduction="none"))
    assert_is_reference(signals, logits, targets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_soft_targets(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 7, generator=generator).to(dtype)
    targets = torch.randn(20, 7, generator=generator).softmax(1)
    targets[0] = F.one_hot(torch.tensor(3), 7)
    signals = classification_signals(logits, targets)
    assert_is_reference(signals, logits, targets)
    assert signals.label is not None
    assert torch.equal(signals.label, targets.argmax(1))
    hard = classification_signals(logits[:1], torch.tensor([3]))
    torch.testing.assert_close(hard.loss, signals.loss[:1])
    expected = F.cross_entropy(logits.float(), targets, reduction="none")
    torch.testing.assert_close(signals.loss, expected)


def test_labels_in_a_column() -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, 2, 1, -100, 2])
    column, flat = (classification_signals(logits, y) for y in (labels[:, None], labels))
    for name, values in vars(flat).items():
        assert torch.equal(getattr(column, name), values), name


def test_gradients_do_not_reach_the_model() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    signals = classification_signals(logits, torch.zeros(4, dtype=torch.long))
    assert not any(t.requires_grad for t in vars(signals).values())


def test_extreme_certainty() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [200.0, 0.0, 0.0, 0.0], [200.0, 0.0, 0.0, 0.0]])
    signals = classification_signals(logits, torch.tensor([2, 0, 1]))
    torch.testing.assert_close(signals.loss, torch.tensor([math.log(4), 0.0, 200.0]))
    torch.testing.assert_close(signals.entropy, torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(signals.target_prob, torch.tensor([0.25, 1.0, 0.0]))


def test_masked_classes_count_as_impossible() -> None:
    logits = torch.tensor([[1.0, -torch.inf, 2.0], [-torch.inf, 0.0, -torch.inf]])
    targets = torch.tensor([2, 1])
    signals = classification_signals(logits, targets)
    assert_is_reference(signals, logits.clamp(min=-1e30), targets)
    assert not signals.nonfinite.any()
    soft = classification_signals(logits, torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]))
    assert not soft.nonfinite.any() and soft.loss[0] > 0 and soft.loss[1] == 0


@pytest.mark.parametrize(
    "targets", [torch.tensor([1, 0]), torch.tensor([[0.5, 0.5, 0], [1, 0, 0]])]
)
def test_an_infinite_loss_is_marked(targets: Tensor) -> None:
    """The label is a class that the model holds to be impossible."""
    logits = torch.tensor([[1.0, -torch.inf, 2.0], [-torch.inf, 0.0, -torch.inf]])
    signals = classification_signals(logits, targets)
    assert signals.nonfinite.all() and (signals.loss == 0).all()


def test_an_ignored_label_is_settled_and_not_marked() -> None:
    logits = torch.tensor([[0.5, 1.5, -1.0], [0.5, 1.5, -1.0], [torch.nan, 0.0, 0.0]])
    signals = classification_signals(logits, torch.tensor([-100, 1, -100]))
    assert signals.nonfinite.tolist() == [False, False, True]
    assert signals.max_prob is not None and signals.label is not None
    for row in (0, 2):
        assert signals.loss[row] == signals.entropy[row] == 0 and signals.max_prob[row] == 1
    assert signals.label.tolist() == [-1, 1, -1]


def test_a_soft_target_that_is_not_finite_has_no_label() -> None:
    targets = torch.tensor([[0.2, 0.8], [torch.nan, 0.1]])
    signals = classification_signals(torch.zeros(2, 2), targets)
    assert signals.nonfinite.tolist() == [False, True]
    assert signals.label is not None and signals.label.tolist() == [1, -1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "broken",
    [[torch.nan, 0.0, 0.0], [torch.inf, 0.0, 1.0], [torch.inf, torch.inf, 0.0], [-torch.inf] * 3],
    ids=str,
)
def test_a_row_that_overflowed_is_marked_and_spoils_no_other(
    broken: list[float], dtype: torch.dtype
) -> None:
    sound = [0.5, 1.5, -1.0]
    logits = torch.tensor([sound, broken, sound], dtype=dtype)
    signals = classification_signals(logits, torch.tensor([0, 1, 0]))
    assert signals.nonfinite.tolist() == [False, True, False]
    assert signals.loss[1] == signals.entropy[1] == 0
    assert signals.max_prob is not None and signals.max_prob[1] == 1
    alone = classification_signals(logits[:1], torch.tensor([0]))
    for name in COLUMNS:
        column = getattr(signals, name)
        assert torch.isfinite(column).all()
        assert column[0] == column[2] == getattr(alone, name)[0]


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (torch.zeros(4), torch.zeros(4).long(), r"logits \[B, C\].*got logits \[4\]"),
        (torch.zeros(4, 5, 3), torch.zeros(4, 5).long(), r"logits \[B, C\].*\[4, 5, 3\]"),
        (torch.zeros(4, 1), torch.zeros(4).long(), r"C >= 2.*\[4, 1\]"),
        (torch.zeros(4, 3).long(), torch.zeros(4).long(), r"floating point.*int64"),
        (torch.zeros(4, 3), torch.zeros(5).long(), r"targets \[B\] or \[B, C\].*targets \[5\]"),
        (torch.zeros(4, 3), torch.zeros(4, 2).long(), r"targets \[B\] or \[B, C\].*\[4, 2\]"),
        (torch.zeros(4, 3), torch.zeros(4), r"integer class labels.*targets \[4\] torch.float32"),
    ],
)
def test_other_shapes_are_refused(logits: Tensor, targets: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification_signals(logits, targets)


# ---------------------------------------------------------------------- Signals


def test_a_users_own_numbers_are_detached_converted_and_finite() -> None:
    loss = torch.tensor([1.0, torch.nan, torch.inf, 4.0], dtype=torch.bfloat16, requires_grad=True)
    signals = Signals(
        loss=loss,
        entropy=torch.tensor([0.1, 0.2, 0.3, torch.nan]),
        max_prob=torch.tensor([0.5, 0.6, 0.7, 0.8], dtype=torch.float64),
        label=torch.tensor([1, 2, 3, 4], dtype=torch.int32),
    )
    assert signals.loss.tolist() == [1, 0, 0, 0]
    torch.testing.assert_close(signals.entropy, torch.tensor([0.1, 0, 0, 0]))
    assert signals.max_prob is not None and signals.label is not None
    assert signals.max_prob.tolist() == [0.5, 1, 1, 1]  # the whole sample says nothing
    assert signals.label.tolist() == [1, 2, 3, 4] and signals.label.dtype == torch.int64
    assert signals.nonfinite.tolist() == [False, True, True, True]
    for name in COLUMNS:
        column = getattr(signals, name)
        assert column.dtype == torch.float32 and not column.requires_grad
    assert len(signals) == 4
    torch.testing.assert_close(signals.target_prob, torch.tensor([math.exp(-1), 1, 1, 1]))


def test_the_label_has_a_probability_whatever_the_loss() -> None:
    loss = torch.tensor([-3.0, 0.0, 1e4])
    assert Signals(loss, torch.zeros(3)).target_prob.tolist() == [1, 1, 0]


def test_what_is_not_finite_is_marked() -> None:
    given_as_true = torch.tensor([False, False, True])
    signals = Signals(
        torch.tensor([1.0, torch.nan, 3.0]), torch.full((3,), 0.5), nonfinite=given_as_true
    )
    assert signals.nonfinite.tolist() == [False, True, True]
    assert signals.loss.tolist() == [1, 0, 0] and signals.max_prob is None
    joined = Signals.cat([signals, signals])
    assert joined.nonfinite.tolist() == 2 * [False, True, True]


@pytest.mark.parametrize("name", ["entropy", "max_prob", "label", "nonfinite"])
@pytest.mark.parametrize("shape", [(4, 1), (3,), ()])
def test_columns_of_another_shape_are_refused(name: str, shape: tuple[int, ...]) -> None:
    columns = {"loss": torch.zeros(4), "entropy": torch.zeros(4), name: torch.zeros(shape)}
    with pytest.raises(
        ValueError, match=rf"one value per sample.*'{name}': \[{str(shape)[1:-1].rstrip(',')}\]"
    ):
        Signals(**columns)


def test_a_mean_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="one value per sample"):
        Signals(torch.tensor(1.0), torch.tensor(0.5))


def test_cat_joins_microbatches_in_order() -> None:
    logits, targets = torch.randn(10, 3), torch.arange(10) % 3
    whole = classification_signals(logits, targets)
    parts = [
        classification_signals(logits[rows], targets[rows]) for rows in (slice(4), slice(4, 10))
    ]
    joined = Signals.cat(parts)
    for name in (*COLUMNS, "label"):
        assert torch.equal(getattr(joined, name), getattr(whole, name))
    bare = Signals(parts[0].loss, parts[0].entropy)
    mixed = Signals.cat([bare, parts[1]])
    assert mixed.max_prob is None and mixed.label is None and len(mixed) == 10
    with pytest.raises(ValueError, match="at least one"):
        Signals.cat([])


def test_nothing_waits_for_the_device(no_host_sync: Callable[[], Any]) -> None:
    logits, labels, soft = torch.randn(8, 5), torch.arange(8) % 5, torch.rand(8, 5)
    with no_host_sync():
        parts = [classification_signals(logits, labels), classification_signals(logits, soft)]
        assert Signals.cat(parts).target_prob.shape == (16,)
