# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Signs of life of a run, for those who look at its folder while it goes on, or after it died."""

from __future__ import annotations

import contextlib
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from composer_dataagent.report.atomic import write_atomically
from composer_dataagent.report.hold import LOCK, is_held
from composer_dataagent.report.wording import number

PROGRESS = "progress.json"
BEAT_SECONDS = 10.0
# Without the lock, which other machines may not see: several beats left out.
SILENT_SECONDS = 120.0
# With it: longer than most evaluations and checkpoints.
STUCK_SECONDS = 600.0


class Pulse:
    """The writer's side: tells every few seconds how far it is, and at last that it has ended.

    A process that is killed cannot tell: then it does not hold the folder any more, and no sign of
    life comes.

    Args:
        folder (Path): The run folder; it is there.
        epochs (float): How many are done.
        locked (bool): Whether others can see that this process holds it.
    """

    def __init__(self, folder: Path, epochs: float, locked: bool) -> None:
        self._folder = folder
        self._facts: dict[str, Any] = {
            "state": "running",
            "epochs": epochs,
            "row_time": None,
            "host": platform.node(),
            "locked": locked,
        }
        self._write()

    @property
    def is_due(self) -> bool:
        """Whether the last sign of life is a while ago."""
        return time.monotonic() - self._told >= BEAT_SECONDS

    def beat(self, epochs: float) -> None:
        """Tell how many epochs are done."""
        self._facts["epochs"] = epochs
        self._write()

    def row(self, epochs: float) -> None:
        """Tell that a row was written, when so many epochs were done."""
        self._facts["row_time"] = time.time()
        self.beat(epochs)

    def end(self) -> None:
        """Tell that training is over; evaluations may follow."""
        self._facts["state"] = "ended"
        self._write()

    def _write(self) -> None:
        self._told = time.monotonic()
        # Training is not to stop for it: what has to be kept is written elsewhere.
        with contextlib.suppress(OSError):
            facts = json.dumps(self._facts | {"time": time.time()}) + "\n"
            write_atomically(self._folder / PROGRESS, facts.encode())


@dataclass(frozen=True)
class Standing:
    """The reader's side: what can be known of whether a run goes on.

    Attributes:
        state (str): ``ended``: training is over; ``running``; ``silent``: no sign of life for a
            while; ``gone``: it did not end, and its process is no more; ``unknown``: its folder
            does not say, it was written by an older version.
        epochs (float): How many are done.
        of (int | None): How many are to be trained, if its end is in epochs.
        sign_age (float | None): Seconds since the last sign of life, if there was one.
        row_age (float | None): Seconds since this process, or the one before where that is not
            known, wrote a row; None if it did not.
        alive (bool): Whether the process is certainly there.
    """

    state: Literal["ended", "running", "silent", "gone", "unknown"]
    epochs: float
    of: int | None
    sign_age: float | None
    row_age: float | None
    alive: bool = False


def read_standing(folder: Path, rows: Path, epochs: float, of: int | None, now: float) -> Standing:
    """Look at a run folder for signs of life.

    Args:
        folder (Path): The run folder.
        rows (Path): Where its rows are.
        epochs (float): How many its last row says are done.
        of (int | None): How many are to be trained, if known.
        now (float): Unix time, in seconds.

    Raises:
        OSError: A file cannot be read.
    """
    facts = _progress(folder / PROGRESS)
    if not facts:
        age = _age(rows.stat().st_mtime, now) if epochs > 0 else None
        is_done = of is not None and epochs >= of
        return Standing("ended" if is_done else "unknown", epochs, of, age, age)
    sign_age, row_age = (_age(number(facts.get(name)), now) for name in ("time", "row_time"))
    here = facts.get("locked") is True and facts.get("host") == platform.node()
    held = is_held(folder / LOCK) if here else None
    told = number(facts.get("epochs"))
    if facts.get("state") == "ended":
        state, told = "ended", epochs
    elif held is False:
        state = "gone"
    else:
        most = STUCK_SECONDS if held else SILENT_SECONDS
        state = "running" if sign_age is not None and sign_age < most else "silent"
    return Standing(state, epochs if told != told else told, of, sign_age, row_age, held is True)


def _age(then: float, now: float) -> float | None:
    """Seconds since; other machines' clocks may go before ours."""
    return None if then != then else max(0.0, now - then)


def _progress(file: Path) -> dict[str, Any]:
    """What a run tells; nothing where that is damaged: all else can be read without it."""
    try:
        facts = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
