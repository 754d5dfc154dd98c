# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether runs still go on, in words, and whether there is anything to wait for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from composer_dataagent.report.pulse import Standing
from composer_dataagent.report.run import Run
from composer_dataagent.report.wording import age, decimal, short


@dataclass(frozen=True)
class State:
    """A line about a run.

    Attributes:
        kind (str): As :class:`~composer_dataagent.report.pulse.Standing` has it.
        name (str): Of the run.
        text (str): What is known.
    """

    kind: str
    name: str
    text: str


def states_of(runs: Sequence[Run]) -> list[State]:
    """A line a run, where not all of them have ended.

    Args:
        runs (Sequence[Run]): Those that were not read from a folder are taken to have ended.
    """
    known = [(run, run.standing) for run in runs if run.standing is not None]
    if all(standing.state == "ended" for _, standing in known):
        return []
    return [
        State(standing.state, _name(run), _text(standing, bool(run.rows)))
        for run, standing in known
    ]


def is_over(run: Run) -> bool:
    """Whether nothing more is to come of a run as it is: it has ended, or died.

    After the last epoch it may be evaluated once more: as long as its process lives, and only the
    last row has no evaluation, that is waited for.
    """
    standing = run.standing
    if standing is None or standing.state == "gone":
        return True
    evaluated = [bool(row.get("metrics")) for row in run.rows]
    awaits = standing.alive and any(evaluated) and not evaluated[-1]
    return standing.state == "ended" and not awaits


def _name(run: Run) -> str:
    return short(run.meta.get("run_name", run.path.name), 60)


def _text(standing: Standing, has_rows: bool) -> str:
    done, of = standing.epochs, standing.of
    some = decimal(done) if of is None else f"{decimal(done)} of {of}"
    row = "no new row yet" if has_rows else "no row yet"
    if standing.row_age is not None:
        row = f"last row {age(standing.row_age)} ago"
    # Of the epoch that runs; between two of them, the coming one.
    at = int(done) + 1
    where = f"epoch {at if of is None else min(at, of)}" + ("" if of is None else f" of {of}")
    epochs = "epoch" if (of or done) == 1 else "epochs"
    silence = "" if standing.sign_age is None else f" for {age(standing.sign_age)}"
    match standing.state:
        case "ended":
            return f"ended after {decimal(done) if done == of else some} {epochs}"
        case "running":
            return f"running, {where}, {row}"
        case "gone":
            return (
                f"stopped in {where}, {row}: its process was killed or failed. Started again, it "
                "goes on from its last checkpoint"
            )
        case "silent" if standing.alive:
            return f"in {where}, {row}: its process is there, but gave no sign of life{silence}"
        case "silent":
            return (
                f"in {where}, {row}: no sign of life{silence}. It was killed, or does something "
                "long between two batches"
            )
        case _:
            return f"{some} {epochs} done, {row}; whether it goes on is not known"
