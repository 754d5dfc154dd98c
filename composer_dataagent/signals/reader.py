# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""One batch's signals and features, put together from the forward passes that a trainer makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from composer_dataagent.signals.classification import Signals
from composer_dataagent.signals.detect import SignalsFn
from composer_dataagent.signals.features import FeatureHook
from composer_dataagent.signals.mixing import Mixing, own_shares

# Features beyond it count as infinite: the policy's sums over them would overflow.
TOO_LARGE = 1e30


class BatchReader:
    """Reads each sample of a batch once, whatever the trainer does with it.

    A trainer cuts a batch into microbatches, and passes over it again where it ran out of memory,
    or for SAM's second step. The first complete pass counts; what an incomplete one showed is
    dropped.

    Args:
        signals_fn (SignalsFn): Reads a microbatch.
        hook (FeatureHook | None): Keeps the features of a forward pass. Default: none are read.
    """

    def __init__(self, signals_fn: SignalsFn, hook: FeatureHook | None = None) -> None:
        self.signals_fn = signals_fn
        self.hook = hook
        self.begin_batch()

    def begin_batch(self) -> None:
        """A new batch comes."""
        self._complete = False
        self._parts: list[tuple[Signals, Tensor | None]] = []
        self.begin_pass()

    def begin_pass(self, cut: float | None = None) -> None:
        """The batch comes from its beginning, for the first time or again.

        Args:
            cut (float | None): Samples in a microbatch. Tried again after its end, a batch may come
                in smaller ones than before. Default: the batch is whole.
        """
        self._rows = 0
        self._microbatch = 0
        if not self._complete:
            self._parts, self._cut = [], cut
        self._is_cut_anew = cut != self._cut

    def before_forward(self) -> None:
        """A microbatch is about to enter the model."""
        if self.hook is not None and not self._complete:
            self.hook.enable()

    def after_forward(self, outputs: Any, batch: Any, mixing: Mixing | None = None) -> slice:
        """Read a microbatch.

        Args:
            outputs (Any): Of the model.
            batch (Any): The microbatch.
            mixing (Mixing | None): How its rows were mixed. Default: they were not.

        Returns:
            slice: Which rows of the whole batch it is.
        """
        if self._complete and not self._is_cut_anew:
            signals = self._parts[self._microbatch][0]
        elif mixing is None:
            signals = self.signals_fn(outputs, batch)
        else:
            signals = own_shares(self.signals_fn, outputs, batch, mixing)
        if not self._complete:
            features = None
            if self.hook is not None:
                self.hook.disable()
                features = self.hook.take(batch)
                broken = ~(features.abs() < TOO_LARGE).all(dim=1)  # true of NaN, too
                # One NaN in a state would end all learning of the agent.
                features = torch.where(broken[:, None], 0.0, features)
                if mixing is not None:
                    features = mixing.of_samples(features, features)
                    broken = mixing.any_of(broken, broken)
                signals = replace(signals, nonfinite=signals.nonfinite | broken)
            self._parts.append((signals, features))
        start = self._rows
        self._rows += len(signals)
        self._microbatch += 1
        return slice(start, self._rows)

    def end_pass(self, size: int) -> tuple[Signals, Tensor | None] | None:
        """The pass is complete.

        Args:
            size (int): Samples that the loader served, ``B``.

        Returns:
            tuple[Signals, Tensor | None] | None: Signals and features ``[B, F]`` of the batch; None
            if an earlier pass gave them. A sample with a NaN or an infinity (or what is nearly one)
            among its features has 0 for all of them, and is marked in ``Signals.nonfinite``.

        Raises:
            RuntimeError: The model saw another number of samples than were served.
        """
        if self._complete:
            return None
        if self._rows != size:
            raise RuntimeError(
                f"The loader served {size} samples but there are signals of {self._rows}: a "
                "collate_fn, an algorithm or a transform changed the number of samples in the "
                "batch, or a `signals` function of yours does not give one value per sample. "
                "Remove it (of llm-foundry's finetuning data, packing_ratio), or have it keep one "
                "row per sample."
            )
        self._complete = True
        if len(self._parts) == 1:
            return self._parts[0]
        signals = Signals.cat([part for part, _ in self._parts])
        features = [part for _, part in self._parts if part is not None]
        return signals, torch.cat(features) if features else None
