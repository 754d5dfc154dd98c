# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""How far a run is, in lines, where a progress bar would fill a file with its moves."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click
from composer.core import Callback, State, TimeUnit
from composer.loggers import Logger

from composer_dataagent import collectives


def wants_lines(trainer: Mapping[str, Any]) -> bool:
    """Whether a run that is to be watched is written to a file or a pipe.

    Args:
        trainer (Mapping[str, Any]): The recipe's section; what it says about this is followed.
    """
    said = {"progress_bar", "log_to_console"} & trainer.keys()
    return not said and not sys.stderr.isatty()


class EpochLines(Callback):
    """A line for each epoch with its last loss, and for each evaluation with its metrics."""

    def epoch_end(self, state: State, logger: Logger) -> None:
        """Tell that an epoch is over."""
        del logger
        done, end = int(state.timestamp.epoch), state.max_duration
        of = f" of {end.value}" if end is not None and end.unit == TimeUnit.EPOCH else ""
        batches = f"{int(state.timestamp.batch):,} batches"
        _tell(f"epoch {done}{of} done, {batches}{_last_loss(state)}")

    def eval_end(self, state: State, logger: Logger) -> None:
        """Tell what an evaluation found."""
        del logger
        found = ", ".join(f"{k} {float(v):.4g}" for k, v in state.eval_metric_values.items())
        _tell(f"evaluated: {found}")


def _last_loss(state: State) -> str:
    loss: Any = state.loss
    if isinstance(loss, Mapping):
        loss = loss.get("total")
    try:
        return f", loss {float(loss):.4g}"
    except (TypeError, ValueError, RuntimeError):  # of several parts, or none
        return ""


def _tell(line: str) -> None:
    if collectives.rank() == 0:
        click.echo(line, err=True)
