# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Sequences are scored as a plain reference in double precision scores them, chunk by chunk."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from composer_dataagent.signals import Signals, TokenOptions, token_signals, tokens


def reference(logits: Tensor, labels: Tensor, shift: bool = False) -> Signals:
    """One token at a time, in double precision."""
    vocabulary = logits.shape[2]
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    losses, entropies = [], []
    for row, label in zip(logits.double(), labels, strict=True):
        kept = (label >= 0) & (label < vocabulary)
        log_prob = row[kept].log_softmax(dim=1)
        prob = log_prob.exp()
        entropy = -torch.where(prob > 0, prob * log_prob, 0.0).sum(dim=1) / math.log(vocabulary)
        loss = -log_prob.gather(1, label[kept].unsqueeze(1)).squeeze(1)
        losses.append(loss.mean() if kept.any() else loss.new_zeros(()))
        entropies.append(entropy.mean() if kept.any() else loss.new_zeros(()))
    return Signals(loss=torch.stack(losses), entropy=torch.stack(entropies))


def assert_close(signals: Signals, expected: Signals, tolerance: float = 1e-5) -> None:
    for name in ("loss", "entropy"):
        got, wanted = getattr(signals, name), getattr(expected, name)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)
    assert torch.equal(signals.nonfinite, expected.nonfinite)


def sequences(
    batch: int, length: int, vocabulary: int, seed: int = 0, padded: float = 0.3
) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, length, vocabulary, generator=random)
    labels = torch.randint(vocabulary, (batch, length), generator=random)
    labels[torch.rand(batch, length, generator=random) < padded] = -100
    return logits, labels


@settings(deadline=None)
@given(
    batch=st.integers(1, 5),
    length=st.integers(1, 9),
    vocabulary=st.integers(2, 40),
    chunk=st.integers(1, 2000),
    padded=st.sampled_from([0.0, 0.3, 1.0]),
    shift=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_shape_in_chunks_of_any_size(
    batch: int, length: int, vocabulary: int, chunk: int, padded: float, shift: bool, seed: int
) -> None:
    logits, labels = sequences(batch, length + shift, vocabulary, seed, padded)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "CPU_CHUNK", chunk)
        assert_close(token_signals(logits, labels, shift=shift), reference(logits, labels, shift))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_large_vocabulary_in_any_precision(dtype: torch.dtype) -> None:
    logits, labels = sequences(2, 24, 50257)
    logits = logits.to(dtype)
    assert_close(token_signals(logits, labels, shift=True), reference(logits, labels, shift=True))


def test_logits_that_are_not_contiguous() -> None:
    logits, labels = sequences(3, 8, 11)
    turned = logits.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert not turned.is_contiguous()
    assert_close(token_signals(turned, labels), reference(logits, labels))


def test_what_does_not_count_may_be_broken() -> None:
    logits, labels = sequences(2, 6, 9)
    expected = reference(logits, labels)
    logits[labels < 0] = torch.nan
    signals = token_signals(logits, labels)
    assert_close(signals, expected)
    assert not signals.nonfinite.any()


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_what_counts_and_is_broken_is_marked(broken: float) -> None:
    logits, labels = sequences(3, 6, 9, padded=0.0)
    logits[1, 2, 3] = broken
    assert token_signals(logits, labels).nonfinite.tolist() == [False, True, False]


def test_tokens_that_cannot_be_have_no_part() -> None:
    logits, labels = sequences(2, 6, 9, padded=0.0)
    labels %= 5
    logits[:, :, 5:] = -torch.inf
    assert_close(token_signals(logits, labels), reference(logits, labels))


def test_the_gradient_is_left_alone() -> None:
    logits, labels = sequences(2, 6, 9)
    logits.requires_grad_()
    before = logits.detach().clone()
    signals = token_signals(logits, labels)
    assert not signals.loss.requires_grad
    assert torch.equal(logits, before)


def test_sequences_of_one_token_have_no_next_one() -> None:
    logits, labels = sequences(3, 1, 9, padded=0.0)
    signals = token_signals(logits, labels, shift=True)
    assert signals.loss.tolist() == signals.entropy.tolist() == [0.0] * 3


# By default not by inductor: it compiles C++.
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.grid)])
def test_compiled_is_the_same(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    tokens._compiled.cache_clear()
    logits, labels = sequences(3, 40, 5000)
    options = TokenOptions(compile=True)
    expected = reference(logits, labels, shift=True)
    assert_close(token_signals(logits, labels, shift=True, options=options), expected, 2e-5)
    logits, labels = sequences(2, 30, 5000)  # of another shape
    assert_close(token_signals(logits, labels, options=options), reference(logits, labels), 2e-5)


# ---------------------------------------------------------------------- some of the tokens


def test_as_many_tokens_as_there_are_is_all_of_them() -> None:
    logits, labels = sequences(4, 10, 12)
    most = int((labels >= 0).sum(dim=1).max())
    options = TokenOptions(max_tokens=most)
    assert_close(token_signals(logits, labels, options=options), reference(logits, labels))


@settings(deadline=None)
@given(
    length=st.integers(2, 40),
    most=st.integers(1, 39),
    seed=st.integers(0, 1000),
    shift=st.booleans(),
)
def test_some_tokens_are_spread_over_those_that_count(
    length: int, most: int, seed: int, shift: bool
) -> None:
    logits, labels = sequences(3, length + shift, 7, seed, padded=0.5)
    signals = token_signals(logits, labels, shift=shift, options=TokenOptions(max_tokens=most))
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    thinned = torch.full_like(labels, -100)
    for row, label in enumerate(labels):
        places = (label >= 0).nonzero().flatten()
        if len(places) > most:
            places = places[((torch.arange(most) + 0.5) * len(places) / most).long()]
        thinned[row, places] = label[places]
    assert_close(signals, reference(logits, thinned))


@pytest.mark.parametrize("value", [0, -1, 1.5, "all", True])
def test_numbers_of_tokens_that_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"max_tokens=.* must be a whole number of at least 1"):
        TokenOptions(max_tokens=value)  # type: ignore[arg-type]


def test_compile_is_yes_or_no() -> None:
    with pytest.raises(ValueError, match="compile='yes' must be True or False"):
        TokenOptions(compile="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (
            torch.zeros(2, 3),
            torch.zeros(2).long(),
            r"logits \[B, T, V\] with V >= 2, got logits \[2",
        ),
        (torch.zeros(2, 3, 1), torch.zeros(2, 3).long(), r"V >= 2, got logits \[2, 3, 1\]"),
        (torch.zeros(2, 3, 4).long(), torch.zeros(2, 3).long(), "floating point logits"),
        (torch.zeros(2, 3, 4), torch.zeros(2, 4).long(), r"labels \[B, T\] .* labels \[2, 4\]"),
        (torch.zeros(2, 3, 4), torch.zeros(2, 3), "integer labels"),
    ],
)
def test_other_shapes_are_refused(logits: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        token_signals(logits, labels)
