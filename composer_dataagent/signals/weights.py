# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Per-sample weights on the gradient, whatever the model's loss function looks like."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from composer_dataagent.signals.detect import logits_of


def scale_gradient(outputs: Any, weights: Tensor) -> None:
    """Multiply row ``i`` of the gradient at the outputs by ``weights[i]``.

    For a loss that is a mean (or sum) of per-sample terms this is exactly a weight on each
    sample's loss. The reported loss stays unweighted.

    Args:
        outputs (Any): The model's outputs in training: logits ``[B, ...]`` or what holds them.
        weights (Tensor): ``[B]`` on the outputs' device.

    Raises:
        TypeError: There are no logits.
    """
    logits = logits_of(outputs)
    if logits is None:
        raise TypeError(
            "A selector with gradient weights (infobatch, or rescale=True) needs the model's "
            f"outputs to be a tensor or to have `logits`, but they are {type(outputs).__name__}"
        )
    if logits.requires_grad:
        logits.register_hook(
            lambda grad: grad * weights.to(grad.dtype).view(-1, *[1] * (grad.dim() - 1))
        )
