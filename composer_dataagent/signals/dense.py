# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Per-image loss and entropy of a model that predicts a class for each pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from composer_dataagent.signals.classification import Signals
from composer_dataagent.signals.tokens import TokenOptions, token_signals


@torch.no_grad()
def dense_signals(
    logits: Tensor, targets: Tensor, *, options: TokenOptions | None = None
) -> Signals:
    """Mean cross entropy and mean normalised entropy over an image's pixels.

    An image is read as a sequence of its pixels, see :func:`token_signals`: in chunks, in float32,
    and by ``max_tokens`` evenly spaced pixels only, if that is given. Pixels whose label is no
    class (-100, 255 and the like) do not count.

    Targets may be finer than the logits, as those of Hugging Face's segmentation models are: then
    the label nearest to the middle of each of the logits' pixels is read.

    Args:
        logits (Tensor): ``[B, C, H, W]`` floating point, C >= 2; of volumes ``[B, C, D, H, W]``.
        targets (Tensor): ``[B, H, W]`` or ``[B, 1, H, W]`` integer class labels; of another height
            and width than the logits', if need be.
        options (TokenOptions | None): How pixels are read. Default: all, not compiled.

    Returns:
        Signals: ``loss``, ``entropy`` and ``max_prob`` as of sequences of tokens. ``label`` is
        None: an image of many classes has no one label.

    Raises:
        ValueError: The shapes or dtypes are not as above.
    """
    if targets.dim() == logits.dim() and targets.shape[1] == 1:
        targets = targets.squeeze(1)
    if logits.dim() < 4 or targets.dim() != logits.dim() - 1 or len(targets) != len(logits):
        raise ValueError(
            "Segmentation needs logits [B, C, H, W] and targets [B, H, W], got logits "
            f"{list(logits.shape)} and targets {list(targets.shape)}"
        )
    for dim, size in enumerate(logits.shape[2:], start=1):
        if targets.shape[dim] != size:
            middles = (torch.arange(size, device=targets.device) + 0.5) / size
            targets = targets.index_select(dim, (middles * targets.shape[dim]).long())
    # Views both: only the chunks that are being read are copied.
    pixels = logits.flatten(2).transpose(1, 2)
    return token_signals(pixels, targets.flatten(1), options=options)
