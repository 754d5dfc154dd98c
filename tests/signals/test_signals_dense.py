# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Images with a class for each pixel: what is read of them is the mean over the pixels."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from composer_dataagent.signals import TokenOptions, dense_signals, detect_signals


def drawn(batch: int, classes: int, *size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, classes, *size, generator=generator)
    return logits, torch.randint(0, classes, (batch, *size), generator=generator)


@given(
    st.integers(1, 3), st.integers(2, 5), st.integers(1, 7), st.integers(1, 7), st.integers(0, 99)
)
def test_the_mean_over_labelled_pixels(
    batch: int, classes: int, height: int, width: int, seed: int
) -> None:
    logits, targets = drawn(batch, classes, height, width, seed=seed)
    targets[torch.rand(targets.shape, generator=torch.Generator().manual_seed(seed)) < 0.3] = 255
    signals = dense_signals(logits, targets)
    loss = F.cross_entropy(logits, targets, reduction="none", ignore_index=255)
    log_prob = logits.log_softmax(dim=1)
    entropy = -(log_prob.exp() * log_prob).sum(dim=1)
    for i, counts in enumerate(targets != 255):
        n = max(1, int(counts.sum()))
        assert signals.loss[i].item() == pytest.approx(loss[i][counts].sum().item() / n, abs=1e-5)
        mean = entropy[i][counts].sum().item() / n / math.log(classes)
        assert signals.entropy[i].item() == pytest.approx(mean, abs=1e-5)
    assert signals.label is None and not signals.nonfinite.any()


def test_volumes_and_masks_with_a_channel() -> None:
    logits, targets = drawn(2, 3, 4, 5, 6)
    flat = dense_signals(logits.flatten(3), targets.flatten(2))
    for given_targets in (targets, targets.unsqueeze(1)):
        torch.testing.assert_close(dense_signals(logits, given_targets).loss, flat.loss)


def test_finer_masks_are_read_where_the_logits_are() -> None:
    logits, coarse = drawn(2, 3, 4, 6)
    fine = coarse.repeat_interleave(4, dim=1).repeat_interleave(2, dim=2)
    torch.testing.assert_close(dense_signals(logits, fine).loss, dense_signals(logits, coarse).loss)


def test_some_pixels_stand_for_all() -> None:
    logits, targets = drawn(2, 3, 8, 8)
    few = dense_signals(logits, targets, options=TokenOptions(max_tokens=16))
    # 64 pixels in 16 parts: the middle of each
    chosen = torch.arange(16) * 4 + 2
    loss = F.cross_entropy(logits, targets, reduction="none").flatten(1)[:, chosen].mean(dim=1)
    torch.testing.assert_close(few.loss, loss)


def test_an_image_that_overflowed_says_nothing() -> None:
    logits, targets = drawn(2, 3, 4, 4)
    logits[1, 2, 3, 3] = math.nan
    signals = dense_signals(logits, targets)
    assert signals.nonfinite.tolist() == [False, True]
    targets[1, 3, 3] = -100  # but a pixel that does not count may hold anything
    assert dense_signals(logits, targets).nonfinite.tolist() == [False, False]


@pytest.mark.parametrize(
    ("shape", "targets"),
    [
        ((2, 3, 4, 4), (2, 4)),
        ((2, 3, 4, 4), (3, 4, 4)),
        ((2, 3, 4, 4), (2, 3, 4, 4)),
        ((2, 3, 4), (2, 4)),
    ],
)
def test_other_shapes_are_refused(shape: tuple[int, ...], targets: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Segmentation needs logits \[B, C, H, W\]"):
        dense_signals(torch.zeros(shape), torch.zeros(targets, dtype=torch.int64))


@pytest.mark.parametrize("form", ["tensor", "mapping"])
def test_segmentation_is_recognised(form: str) -> None:
    logits, targets = drawn(2, 3, 4, 4)
    outputs: Any = logits if form == "tensor" else {"logits": logits}
    batch: Any = (None, targets) if form == "tensor" else {"labels": targets}
    read = detect_signals(nn.Conv2d(1, 3, 1))
    torch.testing.assert_close(read(outputs, batch).loss, dense_signals(logits, targets).loss)
    few = detect_signals(nn.Conv2d(1, 3, 1), TokenOptions(max_tokens=4))
    assert not torch.equal(few(outputs, batch).loss, read(outputs, batch).loss)
