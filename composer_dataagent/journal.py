# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The row of the history that is being written: what an epoch was like and what it took."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from composer.core import State
from numpy.typing import NDArray

from composer_dataagent.report import History
from composer_dataagent.report.facts import EpochFacts


class Journal:
    """Collects an epoch's facts, times and evaluations, and writes them to the history.

    An epoch's row is opened when the epoch ends (or training stops inside it), completed by the
    evaluations that follow, and written before the epoch's checkpoint.

    Args:
        device (torch.device | str): Where the facts are summed.

    Attributes:
        facts (EpochFacts): Sums over the running epoch.
        row (dict[str, Any] | None): The epoch that ended and is not written yet.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._device = device
        self.facts = EpochFacts(device)
        self.row: dict[str, Any] | None = None
        self._history: History | None = None
        self._metrics: dict[str, float] = {}  # of the row to come
        self._written: dict[str, float] = {}  # of the row written last
        self._fitting = False
        self._agent_seconds = 0.0
        self._seconds = 0.0
        self._started = time.perf_counter()

    def begin_fit(self, history: History | None) -> None:
        """Take up writing; ``None`` on all ranks but the first, and where no folder was named."""
        self._history = history
        self._fitting = True
        self.start_clock()

    def start_clock(self) -> None:
        """Start, or start again, to measure an epoch."""
        self._started = time.perf_counter()

    def add_agent_time(self, seconds: float) -> None:
        """Count time as the agent's."""
        self._agent_seconds += seconds

    def times(self) -> dict[str, float]:
        """What the epoch took so far, over a resumption; evaluations at its end not included."""
        seconds = self._seconds + time.perf_counter() - self._started
        return {"seconds": seconds, "agent_seconds": self._agent_seconds}

    def open_row(self, row: dict[str, Any]) -> None:
        """An epoch ended; :attr:`facts` start anew."""
        self.row = row | self.times()
        self.facts = EpochFacts(self._device)

    def record_evaluation(self, state: State) -> None:
        """Note what the evaluator that just ran measured.

        Composer evaluates the last epoch after ``FIT_END``, when its row is written already: then
        the row is written again.
        """
        label = state.dataloader_label
        metrics = self._metrics if self._fitting else self._written
        for name, metric in state.eval_metrics.get(label or "", {}).items():
            value = metric.compute()  # computed already, for Composer's own log
            if isinstance(value, torch.Tensor) and value.numel() == 1:
                metrics[f"{label}/{name}"] = float(value)
        if not self._fitting and self._history is not None:
            self._history.amend({"metrics": metrics})

    def write(self, ledger: Mapping[str, NDArray]) -> None:
        """Write the open row, if there is one, and what the ledger now says."""
        if self.row is not None:
            # What came after the row was opened, choosing the coming samples, is this epoch's too.
            self.row["agent_seconds"] = self._agent_seconds
            if self._metrics:
                self.row["metrics"] = self._metrics
            if self._history is not None:
                self._history.append(self.row)
                self._history.write_ledger(ledger)
        self.row = None
        self._written, self._metrics = self._metrics, {}
        self._agent_seconds = self._seconds = 0.0
        self.start_clock()

    @property
    def beat_is_due(self) -> bool:
        """Whether to call :meth:`beat`, for which the epochs have to be reckoned."""
        return self._history is not None and self._history.beat_is_due

    def beat(self, epochs: float) -> None:
        """Give those who look at the run folder a sign of life, once so many epochs are done."""
        if self._history is not None:
            self._history.beat(epochs)

    def end_fit(self) -> None:
        """Training stops; evaluations that still come amend the last row."""
        self._fitting = False

    def end_run(self) -> None:
        """Tell those who look at the run folder that nothing but evaluations is to come."""
        if self._history is not None:
            self._history.end()

    def write_samples(self, samples: Mapping[int, Mapping[str, Any]]) -> None:
        """Keep a few samples for the report, see ``History.write_samples``."""
        if self._history is not None:
            self._history.write_samples(samples)

    @property
    def is_written(self) -> bool:
        """Whether there is a history to write to."""
        return self._history is not None

    def state_dict(self) -> dict[str, Any]:
        """The running epoch's sums and times, for a checkpoint in the middle of it."""
        return {"facts": self.facts.state_dict(), "metrics": dict(self._metrics), **self.times()}

    def load_state_dict(self, of_ranks: Sequence[Mapping[str, Any]], rank: int, ranks: int) -> None:
        """Restore what :meth:`state_dict` gave on each rank, to rank ``rank`` of ``ranks`` now."""
        self.facts.load_state_dict([state["facts"] for state in of_ranks], rank, ranks)
        self._metrics = dict(of_ranks[0]["metrics"])
        self._seconds, self._agent_seconds = of_ranks[0]["seconds"], of_ranks[0]["agent_seconds"]
