# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What an epoch fetched from a remote, over all nodes, and what the store asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from composer_dataagent.collectives import Ranks, world_size
from composer_dataagent.streaming import Attachment, Costs, Egress


class Fetched:
    """Counts from one row of the history to the next. Made by all ranks at once.

    Args:
        attachment (Attachment): Of the training data.
        costs (Costs): Prices.
        ranks (Ranks): The ranks that train together.
        leads_node (bool): Whether this rank speaks for its node, whose processes count together.
    """

    def __init__(
        self, attachment: Attachment, costs: Costs, ranks: Ranks, leads_node: bool
    ) -> None:
        self._attachment = attachment
        self._costs = costs
        self._ranks = ranks
        self._leads_node = leads_node
        self._began = self._told = self._of_node()
        self._before = Egress()  # what a checkpoint knew of the running epoch
        # Where one node has the data on its own disk, its ranks add their zeros all the same. And
        # no rank fetches before all have begun to count.
        (anywhere,) = self._sum(int(attachment.has_remote()))
        self._counts = anywhere > 0

    def of_epoch(self) -> dict[str, int | float]:
        """Entries of the row: what was fetched since :meth:`begin_epoch`, and before a resumption.

        Called by all ranks at once.

        Returns:
            dict[str, int | float]: ``egress_bytes``, ``egress_requests`` and ``egress_dollars``;
            nothing where all data are local.
        """
        if not self._counts:
            return {}
        # Other ranks go on as soon as the sum is known: what they fetch then is the next epoch's.
        self._told = self._of_node()
        mine = self._before + (self._told - self._began)
        requests, size = self._sum(mine.requests, mine.bytes)
        return {
            "egress_bytes": size,
            "egress_requests": requests,
            "egress_dollars": self._costs.charged(requests, size),
        }

    def begin_epoch(self) -> None:
        """Count from what :meth:`of_epoch` told last."""
        self._began, self._before = self._told, Egress()

    def state_dict(self) -> dict[str, int]:
        """What this rank counted of the running epoch; nothing where all data are local."""
        if not self._counts:
            return {}
        mine = self._before + (self._of_node() - self._began)
        return {"egress_bytes": mine.bytes, "egress_requests": mine.requests}

    def load_state_dict(self, of_ranks: Sequence[Mapping[str, Any]], rank: int) -> None:
        """Go on from what :meth:`state_dict` gave on each rank, however many there were.

        Args:
            of_ranks (Sequence[Mapping[str, Any]]): What it gave; maybe among other things, and not
                in checkpoints of before it was counted.
            rank (int): Of this process. The first one takes all: it is but added up.
        """
        self.begin_epoch()
        for state in of_ranks if rank == 0 else ():
            self._before += Egress(state.get("egress_requests", 0), state.get("egress_bytes", 0))

    def _of_node(self) -> Egress:
        return self._attachment.egress() if self._leads_node else Egress()

    def _sum(self, *numbers: int) -> list[int]:
        if world_size() == 1:
            return list(numbers)  # no host waits for a device over it
        mine = torch.tensor(numbers, dtype=torch.int64, device=self._ranks.device)
        return self._ranks.all_reduce_sum(mine).tolist()
