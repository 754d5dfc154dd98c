# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is said, or done, about visits whose loss, entropy or features are NaN or infinite."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

ON_NONFINITE = ("skip", "raise")
EXAMPLES = 5
WHAT_TO_DO = (
    "Look at such samples (dataset[id]), lower the learning rate, clip gradients, or train in a "
    "wider precision"
)


class NonfiniteWatch:
    """Hears of visits that were not finite when records reach the host, and at the epoch's end.

    Args:
        on_nonfinite (str): ``skip``: one warning an epoch; ``raise``: an error at once.
    """

    def __init__(self, on_nonfinite: str) -> None:
        self._raises = on_nonfinite == "raise"
        self._example: int | None = None

    def hear(self, ids: NDArray[np.int64], when: str) -> None:
        """Ids of visits that were not finite, among those that reached the host now.

        Args:
            ids (NDArray[np.int64]): Possibly none.
            when (str): The epoch or round that they belong to, as messages say it.

        Raises:
            RuntimeError: There are some, and ``on_nonfinite`` is ``raise``.
        """
        if len(ids) and self._raises:
            examples = ", ".join(map(str, ids[:EXAMPLES]))
            dots = ", ..." if len(ids) > EXAMPLES else ""
            raise RuntimeError(
                f"The forward pass gave NaN or an infinity for {len(ids)} samples of {when} "
                f"(ids {examples}{dots}). {WHAT_TO_DO}; or go on without them with "
                "DataAgent(on_nonfinite='skip')"
            )
        if len(ids) and self._example is None:
            self._example = int(ids[0])

    def end_round(self, count: int, when: str) -> None:
        """Say, in one line, how often it happened in an epoch or round, on all ranks together.

        Args:
            count (int): Visits that were not finite.
            when (str): What ended, as messages say it.
        """
        if count:
            # Another rank's, or from before the run was stopped, if none is known here.
            example = "" if self._example is None else f", for example sample id {self._example}"
            log.warning(
                "The forward pass gave NaN or an infinity in %d of the visits of %s%s: they "
                "count as seen and change nothing that is known of their samples. %s",
                count,
                when,
                example,
                WHAT_TO_DO,
            )
        self._example = None
