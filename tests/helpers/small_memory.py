# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A device that runs out of memory in certain batches, so that Composer tries again in halves.

Composer offers automatic microbatching on GPUs only; the retry itself runs anywhere.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from composer import Trainer
from composer.core import Callback
from torch import Tensor, nn

MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB (not really)"


class SmallMemory(Callback):
    """Fails the first attempts at some batches, each in the attempt's last microbatch.

    With batches of 16 the first two are 16, then 8 + 8, of which the first is done when the second
    fails; 4 + 4 + 4 + 4 is enough.

    Args:
        batches (Collection[int]): Numbers of the batches, from 0.
        where (str): ``forward`` or ``backward`` pass, or the optimizer's ``step``, before which the
            whole batch was done; ``nowhere`` makes the run that others are
            compared with: its microbatches shrink at the same batches, but without an attempt that
            failed.
        failing (int): How many attempts fail.

    Attributes:
        attempts (dict[int, int]): Batch to how often it was tried.
        layer (nn.Module): To be put at the end of the model.
    """

    failing: int = 2

    def __init__(self, batches: Collection[int], where: str) -> None:
        self.batches, self.where = batches, where
        self.attempts: dict[int, int] = {}
        self.layer = _Layer(self)
        self._rows_left = 0

    def attach(self, trainer: Trainer) -> None:
        """Let the trainer adjust the microbatch size."""
        trainer.state.auto_microbatching = self.where != "nowhere"

    def batch_start(self, state: Any, logger: Any) -> None:
        self._batch = int(state.timestamp.batch)
        self._size = len(state.batch[0])
        self.attempts[self._batch] = 0
        if self.where == "nowhere" and self._batch in self.batches:
            state.device_train_microbatch_size //= 2**self.failing

    def before_train_batch(self, state: Any, logger: Any) -> None:
        self.attempts[self._batch] += 1
        self._rows_left = self._size

    def after_train_batch(self, state: Any, logger: Any) -> None:
        self.check("step")

    def enter(self, rows: int) -> None:
        """A microbatch enters the forward pass."""
        self._rows_left -= rows
        self.check("forward")

    def check(self, where: str) -> None:
        """Raise where it is time to."""
        due = self._batch in self.batches and self.attempts[self._batch] <= self.failing
        if due and where == self.where and self._rows_left == 0:
            raise RuntimeError(MESSAGE)


class _Layer(nn.Module):
    def __init__(self, memory: SmallMemory) -> None:
        super().__init__()
        self.memory = [memory]  # a list, for Composer copies metrics' models

    def forward(self, x: Tensor) -> Tensor:
        (memory,) = self.memory
        if not self.training:
            return x
        memory.enter(len(x))
        return _Backward.apply(x, memory)  # type: ignore[no-any-return]


class _Backward(torch.autograd.Function):
    """The identity; its backward pass may run out of memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, memory: SmallMemory) -> Tensor:
        ctx.memory = memory
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        ctx.memory.check("backward")
        return gradients[0], None
