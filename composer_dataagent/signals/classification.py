# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Per-sample loss and predictive entropy of a classifier, from the logits it already produced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# A probability of exactly 0 (a masked class) has no logarithm; this stands in for it: finite, and
# beyond any log probability that training meets.
LOG_ZERO = -1e4


@dataclass(frozen=True)
class Signals:
    """What one forward pass says about each sample: on the model's device, detached and finite.

    Gradients are cut, dtypes converted, and a sample with a NaN or an infinity among its numbers
    is marked as ``nonfinite`` and gets the numbers of a settled one (loss 0, entropy 0, max_prob
    1): one NaN would end all learning of the agent.

    Attributes:
        loss (Tensor): ``[B]`` float32 loss, cross entropy in nats for classifiers.
        entropy (Tensor): ``[B]`` float32 predictive entropy divided by ``log C``, in [0, 1].
        max_prob (Tensor | None): ``[B]`` float32 probability of the predicted class; of a sequence
            of tokens, without a label, what the model expects ``exp(-loss)`` to be.
        label (Tensor | None): ``[B]`` int64 class label, -1 where there is none.
        nonfinite (Tensor): ``[B]`` bool, whether the pass said nothing about the sample. True where
            a number is NaN or infinite, and where it was given as true.
        predicted (Tensor | None): ``[B]`` int64 class that the model predicts, -1 where it said
            nothing. Selection does not depend on it; lists of doubtful labels name it.

    Raises:
        TypeError: One of them is no tensor.
        ValueError: The tensors are not all of one shape ``[B]``.
    """

    loss: Tensor
    entropy: Tensor
    max_prob: Tensor | None = None
    label: Tensor | None = None
    nonfinite: Tensor = None  # type: ignore[assignment]  # found out, where it is not given
    predicted: Tensor | None = None

    def __post_init__(self) -> None:
        required = ("loss", "entropy")
        given: dict[str, Any] = {
            name: value
            for name, value in vars(self).items()
            if value is not None or name in required
        }
        for name, value in given.items():
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"Signals needs tensors [B], but {name} is a {type(value).__name__}: "
                    "torch.as_tensor() makes one of an array or a list"
                )
        if self.loss.dim() != 1 or any(t.shape != self.loss.shape for t in given.values()):
            shapes = {name: list(tensor.shape) for name, tensor in given.items()}
            raise ValueError(
                f"Signals needs one value per sample: tensors of one shape [B], got {shapes}"
            )
        label, nonfinite, predicted = (
            given.pop(name, None) for name in ("label", "nonfinite", "predicted")
        )
        columns = {name: tensor.detach().float() for name, tensor in given.items()}
        # 0 * x is 0 but for NaN and the infinities: half the operations of isfinite(). Each one
        # counts here, in every training step.
        broken = torch.stack(list(columns.values())).mul_(0).sum(dim=0) != 0
        if nonfinite is not None:
            broken |= nonfinite
        for name, column in columns.items():
            settled = 1.0 if name == "max_prob" else 0.0
            object.__setattr__(self, name, column.masked_fill(broken, settled))
        object.__setattr__(self, "nonfinite", broken)
        if label is not None:
            object.__setattr__(self, "label", label.detach().long())
        if predicted is not None:
            predicted = predicted.detach().long().masked_fill(broken, -1)
            object.__setattr__(self, "predicted", predicted)

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def target_prob(self) -> Tensor:
        """``exp(-loss)``, ``[B]`` in [0, 1]: the probability that the model gives the label."""
        return (-self.loss).exp().clamp(0.0, 1.0)

    @classmethod
    def cat(cls, parts: Sequence[Signals]) -> Signals:
        """Join the signals of a batch's microbatches, in order.

        A column that any part lacks is ``None`` in the result.

        Args:
            parts (Sequence[Signals]): At least one.

        Raises:
            ValueError: There is none.
        """
        if not parts:
            raise ValueError("Signals.cat needs at least one part")

        def join(columns: Sequence[Tensor | None]) -> Tensor | None:
            present = [column for column in columns if column is not None]
            return torch.cat(present) if len(present) == len(columns) else None

        return cls(
            torch.cat([part.loss for part in parts]),
            torch.cat([part.entropy for part in parts]),
            join([part.max_prob for part in parts]),
            join([part.label for part in parts]),
            torch.cat([part.nonfinite for part in parts]),
            join([part.predicted for part in parts]),
        )


@torch.no_grad()
def classification_signals(logits: Tensor, targets: Tensor) -> Signals:
    """Per-sample cross entropy and normalised entropy (paper, Eq. 1 and 3, before normalisation).

    One log-softmax in float32, whatever the logits' precision; nothing is read back to the host.
    A row with NaN or +inf among its logits (a half-precision overflow, whose step a gradient scaler
    skips), or with -inf at its label, whose loss is infinite, is marked as ``nonfinite``.

    Args:
        logits (Tensor): ``[B, C]`` floating point, C >= 2. Classes masked with -inf are fine.
        targets (Tensor): ``[B]`` or ``[B, 1]`` integer class labels in [0, C), or ``[B, C]`` class
            probabilities, whose largest entry becomes the label. A label outside, such as the -100
            that torch's cross entropy ignores, makes its sample count as settled, without a label.

    Returns:
        Signals: All columns.

    Raises:
        ValueError: The shapes or the targets' dtype are not as above.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[9.0, 0.0], [0.0, 0.0], [9.0, 0.0]])
        >>> signals = classification_signals(logits, torch.tensor([0, 0, 1]))
        >>> [round(loss, 2) for loss in signals.loss.tolist()]  # sure, undecided, contradicted
        [0.0, 0.69, 9.0]
        >>> [round(entropy, 2) for entropy in signals.entropy.tolist()]
        [0.0, 1.0, 0.0]
    """
    if targets.dim() == 2 and targets.shape[1] == 1:
        targets = targets.squeeze(1)
    _check_shapes(logits, targets)
    classes = logits.shape[1]
    log_prob = logits.float().log_softmax(dim=1)
    # A class that is impossible has no part in a sum of p log p. NaN stays: Signals looks for it.
    summand = log_prob.clamp(min=LOG_ZERO)
    prob = log_prob.exp()
    entropy = (-(prob * summand).sum(dim=1) / math.log(classes)).clamp(0.0, 1.0)  # rounding
    max_prob, predicted = prob.max(dim=1)
    if targets.dim() == 1:
        ignored = (targets < 0) | (targets >= classes)
        label = targets.long().masked_fill(ignored, -1)
        loss = -log_prob.gather(1, label.clamp(min=0).unsqueeze(1)).squeeze(1)
        # Settled, unless the row itself is broken: its entropy then still is NaN.
        loss = loss.masked_fill(ignored, 0.0)
        entropy = entropy * ~ignored
        max_prob = max_prob.masked_fill(ignored, 1.0)
    else:
        label = torch.where(targets.isnan().any(dim=1), -1, targets.argmax(dim=1))
        weighted = torch.where(targets == 0, 0.0, targets.float() * log_prob)
        loss = -weighted.sum(dim=1)
    return Signals(loss=loss, entropy=entropy, max_prob=max_prob, label=label, predicted=predicted)


def _check_shapes(logits: Tensor, targets: Tensor) -> None:
    got = (
        f"got logits {list(logits.shape)} {logits.dtype} and "
        f"targets {list(targets.shape)} {targets.dtype}"
    )
    if logits.dim() != 2 or not logits.is_floating_point() or logits.shape[1] < 2:
        raise ValueError(f"Classification needs floating point logits [B, C] with C >= 2, {got}")
    hard = targets.shape == logits.shape[:1]
    if not hard and targets.shape != logits.shape:
        raise ValueError(f"Classification needs targets [B] or [B, C] to match the logits, {got}")
    if hard and (targets.is_floating_point() or targets.is_complex()):
        raise ValueError(f"Targets of shape [B] must be integer class labels, {got}")
    if not hard and not targets.is_floating_point():
        raise ValueError(f"Targets of shape [B, C] must be floating point probabilities, {got}")
