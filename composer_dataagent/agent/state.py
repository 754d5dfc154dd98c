# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the policy sees of a sample when its state is the per-sample signals."""

from __future__ import annotations

import torch
from torch import Tensor

SIGNAL_STATE_DIM = 9
# Keeps log odds and logarithms finite, and of the size that networks are used to: +-3.5.
_EPS, _SCALE = 1e-6, 0.25
# Two probabilities that both underflowed to 0 agree; as in selection.update_agreement, whose
# running mean of this ratio is another column.
PROB_EPS = 1e-30


def signal_state(
    loss: Tensor,
    entropy: Tensor,
    max_prob: Tensor,
    agreement: Tensor,
    log_class_freq: Tensor,
    progress: float | Tensor,
) -> Tensor:
    """Nine numbers about a sample, from its last visit.

    In order: log odds of the label; log odds of the predicted class; log odds of the normalised
    entropy; log of the loss; running agreement with the label; probability of the label over that
    of the predicted class; whether the prediction is right; log share of the label's class; share
    of training done. The first four are scaled by a quarter. They are logarithms because a young
    model's entropies all lie within .01 of 1, an old one's within .01 of 0: from the plain numbers
    the policy does not learn to tell samples apart before it has settled on one action for all.

    Args:
        loss (Tensor): ``[B]`` float32 cross entropy in nats.
        entropy (Tensor): ``[B]`` float32 in [0, 1].
        max_prob (Tensor): ``[B]`` float32 probability of the predicted class.
        agreement (Tensor): ``[B]`` float32 in [0, 1], a running mean of the sixth number.
        log_class_freq (Tensor): ``[B]`` float32, log of the label's share; 0 where unknown.
        progress (float | Tensor): Share of training done, in [0, 1], or ``[B]`` of them.

    Returns:
        Tensor: ``[B, 9]`` float32.

    Raises:
        ValueError: The tensors are not all of one shape ``[B]``.
    """
    columns = (entropy, max_prob, agreement, log_class_freq)
    if loss.dim() != 1 or any(column.shape != loss.shape for column in columns):
        shapes = [list(column.shape) for column in (loss, *columns)]
        raise ValueError(f"signal_state needs tensors of one shape [B], got {shapes}")
    target_prob = (-loss).exp().clamp(max=1.0)
    relative = ((target_prob + PROB_EPS) / (max_prob + PROB_EPS)).clamp(max=1.0)
    return torch.stack(
        [
            _log_odds(target_prob),
            _log_odds(max_prob),
            _log_odds(entropy),
            (loss.clamp_min(0) + _EPS).log() * _SCALE,
            agreement,
            relative,
            # Not `== 1`: the two probabilities reach us by different roundings.
            (relative > 1 - 1e-5).float(),
            log_class_freq,
            loss.new_zeros(loss.shape) + progress,
        ],
        dim=1,
    )


def _log_odds(probability: Tensor) -> Tensor:
    # A probability that was rounded beyond 1 would give NaN, and the policy would never recover.
    probability = probability.clamp(0.0, 1.0)
    return ((probability + _EPS) / (1 - probability + _EPS)).log() * _SCALE
