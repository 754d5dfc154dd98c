# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What batches showed of samples, kept on the device until the ledger is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from composer_dataagent.selection import Ledger


@dataclass(frozen=True)
class Records:
    """One row per sample of a batch, ``[B]`` each; ``ids`` on the host, the rest on the device."""

    ids: Tensor
    loss: Tensor
    entropy: Tensor
    max_prob: Tensor
    label: Tensor
    agreement: Tensor
    score: Tensor
    nonfinite: Tensor


class RecordBuffer:
    """Collects :class:`Records` and writes them to the ledger in one go.

    Moving them to the host once per update interval, not once per step, keeps the training step
    free of host synchronisation.
    """

    def __init__(self) -> None:
        self._batches: list[Records] = []

    def append(self, records: Records) -> None:
        """Remember a batch."""
        self._batches.append(records)

    def write_to(self, ledger: Ledger, epoch: int) -> NDArray[np.int64]:
        """Write all that was remembered to the ledger, and forget it.

        Args:
            ledger (Ledger): Where to write.
            epoch (int): The epoch that the batches belong to.

        Returns:
            NDArray[np.int64]: Ids of the samples whose visits were not finite.
        """
        if not self._batches:
            return np.zeros(0, np.int64)
        columns = {
            field.name: torch.cat([getattr(batch, field.name) for batch in self._batches])
            .cpu()
            .numpy()
            for field in fields(Records)
        }
        self._batches = []
        ids, nonfinite = columns.pop("ids"), columns.pop("nonfinite")
        if np.isnan(columns["score"]).all():  # the agent scores at the epoch's end, or not at all
            del columns["score"]
        ledger.record(ids, epoch, **columns)
        return ids[nonfinite]

    def state_dict(self) -> list[dict[str, Tensor]]:
        """The remembered batches, for a checkpoint between two writes."""
        return [
            {field.name: getattr(batch, field.name) for field in fields(Records)}
            for batch in self._batches
        ]

    def load_state_dict(
        self, state: list[Mapping[str, Tensor]], device: torch.device | str
    ) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._batches = []
        for batch in state:
            on_device: dict[str, Any] = {
                name: tensor if name == "ids" else tensor.to(device)
                for name, tensor in batch.items()
            }
            self._batches.append(Records(**on_device))
