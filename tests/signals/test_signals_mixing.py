# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A mixed batch's numbers are dealt out to its samples: nothing is lost, and each gets its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from composer.algorithms import CutMix, LabelSmoothing, MixUp
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from composer_dataagent.signals import (
    Mixing,
    Signals,
    classification_signals,
    detect_signals,
    find_mixer,
    own_shares,
)

ROWS, CLASSES = 6, 4


class Pair(NamedTuple):
    """A batch that cannot be changed in place, with named parts."""

    image: Tensor
    label: Tensor


@st.composite
def mixed_batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, Mixing]:
    """Logits, hard labels or probabilities, and how the rows were mixed."""
    rows = draw(st.integers(1, 8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    logits = 4 * torch.randn(rows, CLASSES, generator=generator)
    targets = torch.randint(CLASSES, (rows,), generator=generator)
    if draw(st.booleans()):
        targets = torch.rand(rows, CLASSES, generator=generator).softmax(1)
    partner = torch.tensor(draw(st.permutations(range(rows))))
    own = draw(st.floats(0, 1))
    return logits, targets, Mixing(partner, own, targets[partner])


def read(outputs: Any, batch: Any) -> Signals:
    return classification_signals(outputs, batch[1])


@given(mixed_batches())
def test_the_shares_add_up_to_the_loss_of_the_batch(
    mixed: tuple[Tensor, Tensor, Mixing],
) -> None:
    logits, targets, mixing = mixed
    loss = mixing.own * F.cross_entropy(logits, targets) + (1 - mixing.own) * F.cross_entropy(
        logits, mixing.targets
    )
    signals = own_shares(read, logits, (None, targets), mixing)
    torch.testing.assert_close(signals.loss.mean(), loss, rtol=1e-4, atol=1e-5)
    plain = read(logits, (None, targets))
    assert plain.max_prob is not None and signals.max_prob is not None
    for name in ("entropy", "max_prob"):  # those of a row are dealt out whole
        torch.testing.assert_close(getattr(signals, name).sum(), getattr(plain, name).sum())
    assert plain.label is not None and signals.label is not None
    assert torch.equal(signals.label, plain.label)


@given(mixed_batches())
def test_a_sample_gets_the_terms_with_its_own_label(mixed: tuple[Tensor, Tensor, Mixing]) -> None:
    logits, targets, mixing = mixed
    signals = own_shares(read, logits, (None, targets), mixing)
    for j in range(len(logits)):
        (row,) = (i for i in range(len(logits)) if mixing.partner[i] == j)
        own, other = (F.cross_entropy(logits[[i]], targets[[j]]) for i in (j, row))
        wanted = mixing.own * own + (1 - mixing.own) * other
        torch.testing.assert_close(signals.loss[j], wanted, rtol=1e-4, atol=1e-5)


@given(mixed_batches(), st.integers(0, 2**16))
def test_weighting_rows_is_weighting_samples(
    mixed: tuple[Tensor, Tensor, Mixing], seed: int
) -> None:
    """Numbers of rows, weighted as rows, sum to numbers of samples, weighted as samples."""
    logits, _, mixing = mixed
    weights = torch.rand(len(logits), generator=torch.Generator().manual_seed(seed))
    of_rows = (mixing.of_rows(weights) * logits[:, 0]).sum()
    of_samples = (weights * mixing.of_samples(logits[:, 0], logits[:, 0])).sum()
    torch.testing.assert_close(of_rows, of_samples, rtol=1e-4, atol=1e-4)


def test_one_who_predicts_the_mixture_exactly_agrees_with_the_labels() -> None:
    labels, partner = torch.tensor([0, 1]), torch.tensor([1, 0])
    for own in torch.linspace(0, 1, 41).tolist():
        mixture = own * torch.eye(2)[labels] + (1 - own) * torch.eye(2)[labels[partner]]
        mixing = Mixing(partner, own, labels[partner])
        signals = own_shares(read, mixture.log(), (None, labels), mixing)
        assert signals.max_prob is not None
        assert ((signals.target_prob / signals.max_prob) >= 0.75).all()


def make_batch() -> tuple[Tensor, Tensor, Mixing]:
    torch.manual_seed(0)
    labels = torch.randint(CLASSES, (ROWS,))
    partner = torch.randperm(ROWS)
    return torch.randn(ROWS, CLASSES), labels, Mixing(partner, 0.7, labels[partner])


@pytest.mark.parametrize(
    ("make", "key", "labels_of"),
    [
        (lambda labels: (None, labels), 1, lambda batch: batch[1]),
        (lambda labels: [None, labels], 1, lambda batch: batch[1]),
        (lambda labels: {"image": None, "label": labels}, "label", lambda batch: batch["label"]),
        (lambda labels: Pair(torch.zeros(0), labels), "label", lambda batch: batch.label),
        (
            lambda labels: {"deep": {"label": labels}},
            (
                lambda batch: batch["deep"]["label"],
                lambda batch, value: batch["deep"].update(label=value) or batch,
            ),
            lambda batch: batch["deep"]["label"],
        ),
    ],
    ids=["tuple", "list", "mapping", "named tuple", "functions"],
)
def test_batches_of_any_form_stay_as_they_are(
    make: Callable[[Tensor], Any], key: Any, labels_of: Callable[[Any], Tensor]
) -> None:
    logits, labels, mixing = make_batch()
    batch = make(labels)
    signals = own_shares(
        lambda outputs, given: classification_signals(outputs, labels_of(given)),
        logits,
        batch,
        Mixing(mixing.partner, mixing.own, mixing.targets, key),
    )
    assert labels_of(batch) is labels
    assert torch.equal(signals.loss, own_shares(read, logits, (None, labels), mixing).loss)


def test_a_users_own_signals_may_have_no_labels() -> None:
    logits, labels, mixing = make_batch()

    def signals(outputs: Tensor, batch: Any) -> Signals:
        return Signals(outputs[:, 0] + batch[1], outputs[:, 1])

    shares = own_shares(signals, logits, (None, labels), mixing)
    assert shares.label is None and shares.max_prob is None
    assert shares.loss.sum() == pytest.approx(float(logits[:, 0].sum() + labels.sum()), rel=1e-5)


def test_an_ignored_label_is_settled_whatever_it_was_mixed_with() -> None:
    logits, labels, mixing = make_batch()
    labels[2] = -100
    mixing = Mixing(mixing.partner, mixing.own, labels[mixing.partner])
    signals = own_shares(read, logits, (None, labels), mixing)
    assert signals.label is not None and signals.label[2] == -1
    assert signals.loss[2] == signals.entropy[2] == 0 and signals.max_prob[2] == 1  # type: ignore[index]
    assert (signals.loss[torch.arange(ROWS) != 2] > 0).all()


def test_nothing_waits_for_the_device(no_host_sync: Callable[[], Any]) -> None:
    logits, labels, mixing = make_batch()
    with no_host_sync():
        own_shares(detect_signals(torch.nn.Identity()), logits, (logits, labels), mixing)
        mixing.of_rows(torch.ones(ROWS))


# ---------------------------------------------------------------------- the reader


def test_without_mixup_and_cutmix_nothing_is_mixed() -> None:
    assert find_mixer([LabelSmoothing()]) is None


def test_what_composers_objects_say() -> None:
    mixup, cutmix = MixUp(), CutMix()
    mixup.indices, mixup.mixing = torch.tensor([1, 0]), 0.3
    cutmix._indices, cutmix._adjusted_lambda = torch.tensor([1, 0]), 0.3
    for algorithm, own in ((mixup, 0.7), (cutmix, 0.3)):
        mixer = find_mixer([LabelSmoothing(), algorithm])
        assert mixer is not None
        mixing = mixer.read()
        assert mixing.own == pytest.approx(own) and mixing.partner.tolist() == [1, 0]
