# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whose loss is whose in a batch whose rows were mixed: MixUp and CutMix."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from composer.algorithms import CutMix, MixUp
from composer.core import Algorithm
from composer.utils import batch_get, batch_set
from torch import Tensor

from composer_dataagent.signals.classification import Signals
from composer_dataagent.signals.detect import SignalsFn

# Where Composer 0.32 (`algorithms/mixup/mixup.py`, `algorithms/cutmix/cutmix.py`) keeps what it
# did to a microbatch: the permutation, a share, the partners' targets and where targets are.
# CutMix's share is that of a row's own sample, MixUp's that of its partner.
_ATTRIBUTES: dict[type[Algorithm], tuple[str, str, str, str]] = {
    MixUp: ("indices", "mixing", "permuted_target", "target_key"),
    CutMix: ("_indices", "_adjusted_lambda", "_permuted_target", "target_key"),
}


@dataclass(frozen=True)
class Mixing:
    """How the rows of one microbatch were mixed.

    Row ``i`` is ``own x_i + (1 - own) x_partner(i)``, and the batch loss is the mean over ``i`` of
    ``own CE(out_i, y_i) + (1 - own) CE(out_i, y_partner(i))``. (For CutMix, ``own`` is the share of
    the image that was kept.)

    Attributes:
        partner (Tensor): ``[B]`` int64 permutation, on the host.
        own (float): Share of a row that is its own sample's, in [0, 1].
        targets (Tensor): ``[B]`` or ``[B, C]`` targets of the partners.
        target_key (Any): Where a batch has its targets, as ``composer.utils.batch_get`` takes it.
    """

    partner: Tensor
    own: float
    targets: Tensor
    target_key: Any = 1

    @cached_property
    def _inverse(self) -> Tensor:
        """Row ``_inverse[j]`` is the one that sample ``j`` was mixed into."""
        return self.partner.argsort()

    def of_samples(self, own: Tensor, partner: Tensor) -> Tensor:
        """From numbers about rows to numbers about samples.

        A sample is in two rows: its own, and the one that it was mixed into.

        Args:
            own (Tensor): ``[B, ...]`` about row ``i`` and its own sample.
            partner (Tensor): ``[B, ...]`` about row ``i`` and its partner.

        Returns:
            Tensor: ``[B, ...]`` their mean for each sample, weighted by its shares of the rows.
        """
        inverse = self._inverse.to(partner.device, non_blocking=True)
        return self.own * own + (1 - self.own) * partner[inverse]

    def any_of(self, own: Tensor, partner: Tensor) -> Tensor:
        """Whether either of a sample's two rows has it, ``[B]`` bool; see :meth:`of_samples`."""
        return own | partner[self._inverse.to(partner.device, non_blocking=True)]

    def of_rows(self, weights: Tensor) -> Tensor:
        """From weights of samples to weights of rows: the mean over the two that are in a row.

        Args:
            weights (Tensor): ``[B]``, of each row's own sample.

        Returns:
            Tensor: ``[B]``.
        """
        partner = self.partner.to(weights.device, non_blocking=True)
        return self.own * weights + (1 - self.own) * weights[partner]


def own_shares(signals_fn: SignalsFn, outputs: Any, batch: Any, mixing: Mixing) -> Signals:
    """What a mixed microbatch says about each of its samples: all terms with its own label.

    Sample ``j`` is scored with ``own CE(out_j, y_j) + (1 - own) CE(out_i, y_j)``, where ``i`` is
    the row that it was mixed into; so the shares of all samples add up to the batch's loss.
    Entropy and ``max_prob`` are the same means. As ``exp(-loss)`` is then a geometric mean, the
    ratio to ``max_prob`` (agreement) of a model that predicts the mixture exactly is not 1 but at
    least 0.75, far above where a sample counts as mislabelled.

    Args:
        signals_fn (SignalsFn): Reads a microbatch.
        outputs (Any): Of the model.
        batch (Any): The microbatch, its targets not yet mixed. Not changed.
        mixing (Mixing): How it was mixed.

    Returns:
        Signals: The columns that ``signals_fn`` gives, but for ``predicted``: a mixed row is of two
        samples. Labels are the samples' own.
    """
    own = signals_fn(outputs, batch)
    targets = batch_get(batch, mixing.target_key)
    partner = signals_fn(outputs, batch_set(copy.copy(batch), mixing.target_key, mixing.targets))
    # A user's setter may reach into what a shallow copy shares.
    batch_set(copy.copy(batch), mixing.target_key, targets)
    max_prob = None
    if own.max_prob is not None and partner.max_prob is not None:
        max_prob = mixing.of_samples(own.max_prob, partner.max_prob)
    return Signals(
        loss=mixing.of_samples(own.loss, partner.loss),
        entropy=mixing.of_samples(own.entropy, partner.entropy),
        max_prob=max_prob,
        label=own.label,
        nonfinite=mixing.any_of(own.nonfinite, partner.nonfinite),
    )


class Mixer:
    """Asks MixUp or CutMix how it mixed the microbatch that the model just saw.

    Args:
        algorithm (MixUp | CutMix): The run's.

    Raises:
        RuntimeError: This version of Composer keeps it elsewhere.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self._attributes = next(
            names for kind, names in _ATTRIBUTES.items() if isinstance(algorithm, kind)
        )
        missing = [name for name in self._attributes if not hasattr(algorithm, name)]
        if missing:
            raise RuntimeError(
                f"DataAgent cannot tell which samples {type(algorithm).__name__} mixes, for in "
                f"this version of Composer it has no {', '.join(missing)}: use Composer 0.32, or "
                "remove one of the two algorithms"
            )

    def read(self) -> Mixing:
        """How the microbatch was mixed; to be asked between its forward pass and the next one."""
        partner, share, targets, key = (getattr(self._algorithm, name) for name in self._attributes)
        own = float(share) if isinstance(self._algorithm, CutMix) else 1 - float(share)
        return Mixing(partner, own, targets, key)


def find_mixer(algorithms: Iterable[Algorithm]) -> Mixer | None:
    """The run's MixUp or CutMix, if there is one.

    Args:
        algorithms (Iterable[Algorithm]): All of the run.

    Raises:
        ValueError: There are several, which mix what the first one mixed.
        RuntimeError: This version of Composer does not say how it mixes.
    """
    mixers = [algorithm for algorithm in algorithms if isinstance(algorithm, tuple(_ATTRIBUTES))]
    if len(mixers) > 1:
        names = " and ".join(type(algorithm).__name__ for algorithm in mixers)
        raise ValueError(
            f"DataAgent cannot run together with {names} at once, for a row would hold up to four "
            "samples and Composer's mixed labels do not say in which shares: keep one of them"
        )
    return Mixer(mixers[0]) if mixers else None
