# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What an epoch's batches showed, summed on the device until the epoch ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

ACTION_BINS = 20
# What happened so often, rather than how large it was on average.
COUNTS = ("nonfinite", "without_targets", "updates")


class EpochFacts:
    """Running sums by name; nothing is moved to the host before :meth:`means` is called.

    Args:
        device (torch.device | str): Where the ranks' sums are added. Default: ``"cpu"``.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = device
        # name -> [sum, sum of squares, count]
        self._sums: dict[str, Tensor] = {}
        self._bins = torch.arange(ACTION_BINS, device=device)
        self._histogram = torch.zeros(ACTION_BINS, dtype=torch.float64, device=device)

    def add(self, where: Tensor | None = None, **values: Tensor) -> None:
        """Add per-sample tensors ``[B]`` or per-batch ones ``[]`` to the sums of their names.

        Args:
            where (Tensor | None): Bool, which samples count. Default: all.
            **values (Tensor): By name.
        """
        for name, value in values.items():
            value = value.detach().double()
            count = value.new_full((), value.numel())
            if where is not None:
                counted = where.to(value)
                value, count = value * counted, counted.sum()
            entry = torch.stack([value.sum(), value.square().sum(), count])
            # Each sum stays where its values are: to move them would have the host wait.
            if name in self._sums:
                entry += self._sums[name].to(entry.device)
            self._sums[name] = entry

    def add_actions(self, actions: Tensor) -> None:
        """Add actions ``[B]`` in (0, 1): their mean, spread and histogram."""
        self.add(action=actions)
        # Not histc, which has no deterministic CUDA kernel, nor one_hot, which asks the device.
        bins = (actions * ACTION_BINS).long().clamp(0, ACTION_BINS - 1)
        self._histogram += (bins[:, None] == self._bins).sum(0)

    def means(
        self, all_reduce_sum: Callable[[Tensor], Tensor] = lambda tensor: tensor
    ) -> dict[str, float]:
        """Mean of every name that was added (the sum, of those in ``COUNTS``), plus ``action_std``.

        Args:
            all_reduce_sum (Callable[[Tensor], Tensor]): Sums a tensor over ranks. Default: the
                identity (one rank).

        Returns:
            dict[str, float]: Name to number; NaN where a mean has no value on any rank.
        """
        if not self._sums:
            return {}
        names = sorted(self._sums)
        sums = torch.stack([self._sums[name].to(self._device) for name in names])
        sums = all_reduce_sum(sums).cpu()
        means = (sums[:, 0] / sums[:, 2]).tolist()
        result = dict(zip(names, means, strict=True))
        result |= {name: float(sums[names.index(name), 0]) for name in COUNTS if name in result}
        if "action" in result:
            _, squares, count = sums[names.index("action")].tolist()
            result["action_std"] = max(squares / count - result["action"] ** 2, 0.0) ** 0.5
        return result

    def action_histogram(
        self, all_reduce_sum: Callable[[Tensor], Tensor] = lambda tensor: tensor
    ) -> list[int]:
        """Counts of actions in 20 equal bins over [0, 1]."""
        return [int(count) for count in all_reduce_sum(self._histogram.clone()).cpu().tolist()]

    def state_dict(self) -> dict[str, Tensor | dict[str, Tensor]]:
        """This rank's sums, on the host, for a checkpoint in the middle of an epoch."""
        return {
            "sums": {name: sums.cpu() for name, sums in self._sums.items()},
            "histogram": self._histogram.clone().cpu(),
        }

    def load_state_dict(self, of_ranks: Sequence[dict[str, Any]], rank: int, ranks: int) -> None:
        """Restore what :meth:`state_dict` gave.

        Args:
            of_ranks (Sequence[dict]): What it gave on each rank.
            rank (int): Of this process.
            ranks (int): How many there are now; if others than before, sums are dealt to them.
        """
        # Each rank its own: in another order, sums over ranks would be rounded in another way.
        mine = of_ranks[rank::ranks]

        def restore(get: Callable[[dict[str, Any]], Tensor]) -> Tensor:
            return sum(map(get, mine), torch.zeros_like(get(of_ranks[0]))).to(self._device)

        self._sums = {
            name: restore(lambda state, name=name: state["sums"][name])
            for name in of_ranks[0]["sums"]
        }
        self._histogram = restore(lambda state: state["histogram"])
