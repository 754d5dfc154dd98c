# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What happened in a run, machine-readable, in a folder that survives kills and resumes."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer_dataagent.report.atomic import write_atomically
from composer_dataagent.report.hold import Hold, InUseError, refuse_if_held, take
from composer_dataagent.report.pulse import Pulse
from composer_dataagent.report.run import (
    LEDGER,
    META,
    PICTURES,
    ROWS,
    SAMPLES,
    epochs_done,
    read_meta,
    read_rows,
)
from composer_dataagent.report.thumbnails import make_thumbnail

# Of the meta of a run that is started again. Where the user gives no seed, each start draws its
# own; and however samples are fetched, at whatever price, they are the same.
_MAY_CHANGE = ("trainer_seed", "fetch", "costs")


class History:
    """Writes a run folder; :func:`~composer_dataagent.report.read_run` reads it.

    Files: ``meta.json``, ``history.jsonl`` (one row a finished epoch), ``ledger.npz`` (what is
    known of every sample), ``samples.json`` and ``samples/`` (thumbnails), ``progress.json`` (signs
    of life). Nothing is written before :meth:`begin`. One process writes, rank 0.

    Args:
        run_dir (str | Path): The folder; made if absent.
        overwrite (bool): Replace what another run left there. Default: ``False``.
    """

    def __init__(self, run_dir: str | Path, overwrite: bool = False) -> None:
        self.path = Path(run_dir)
        self.overwrite = overwrite
        self._is_mine = False
        self._hold: Hold | None = None
        self._pulse: Pulse | None = None

    def begin(self, meta: dict[str, Any], epoch: int, resumed: bool = False) -> None:
        """Take the folder into use, at the start of training or when it is resumed.

        A run resumed at ``epoch`` keeps the rows before it. Those from ``epoch`` on are dropped,
        since it writes them again, if the folder has the same ``run_name``. A folder of another
        name is taken over if its rows are exactly those of the epochs before ``epoch`` (the run
        goes on under a new name).

        Where nothing was resumed, rows that are there are an error. The one exception is a folder
        whose ``meta`` is equal in every entry (but for how data are fetched): a run that was killed
        before its first checkpoint and started again, which writes the same rows again.

        ``overwrite`` removes what would be an error. A folder without rows is free to take, and
        so is one that this object has begun before (a second ``fit()``).

        Args:
            meta (dict[str, Any]): Settings of the run, with ``run_name``. Those on which the rows
                depend should be in it.
            epoch (int): The epoch about to run, or to be gone on with.
            resumed (bool): Whether anything was trained before. Default: ``False``.

        Raises:
            FileExistsError: The folder holds the history of another run, or of other settings.
            InUseError: Another process writes the folder.
            OSError: The folder cannot be made or written.
            ValueError: The history that is there is damaged.
        """
        refuse_if_held(self.path)
        rows = self._rows_to_keep(meta, epoch, resumed)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._hold = take(self.path)
            if not rows:
                self._remove_ledger_and_samples()
            write_atomically(self.path / ROWS, b"".join(_line(row) for row in rows))
            write_atomically(self.path / META, _line(meta))
            self._is_mine = True
            self._pulse = Pulse(self.path, epochs_done(rows), self._hold.is_seen)
        except InUseError:
            raise
        except OSError as error:
            raise OSError(
                f"The run_dir {self.path} cannot be written ({error}): use another run_dir"
            ) from error

    def append(self, row: dict[str, Any]) -> None:
        """Add the row of a finished epoch; it is on disk when this returns.

        Args:
            row (dict[str, Any]): ``epoch`` and facts about it; numbers that are NaN or infinite
                become null.
        """
        with open(self.path / ROWS, "ab") as file:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())
        if self._pulse is not None:
            self._pulse.row(epochs_done([row]))

    @property
    def beat_is_due(self) -> bool:
        """Whether to call :meth:`beat`."""
        return self._pulse is not None and self._pulse.is_due

    def beat(self, epochs: float) -> None:
        """Give a sign of life between two rows, once so many epochs are done."""
        if self._pulse is not None:
            self._pulse.beat(epochs)

    def end(self) -> None:
        """Tell that training is over; evaluations may follow."""
        if self._pulse is not None:
            self._pulse.end()

    def amend(self, facts: Mapping[str, Any]) -> None:
        """Replace entries of the last row: an evaluation came after it was written.

        Args:
            facts (Mapping[str, Any]): Entries to replace; nothing happens while there is no row.
        """
        rows = read_rows(self.path)
        if rows:
            rows[-1] |= facts
            write_atomically(self.path / ROWS, b"".join(_line(row) for row in rows))

    def write_ledger(self, columns: Mapping[str, NDArray]) -> None:
        """Replace the ledger.

        Args:
            columns (Mapping[str, NDArray]): Arrays ``[N]`` by name.
        """
        buffer = io.BytesIO()
        # Not compressed: losses hardly shrink, and training waits.
        np.savez(buffer, **dict(columns))  # type: ignore[arg-type]
        write_atomically(self.path / LEDGER, buffer.getvalue())

    def write_samples(self, samples: Mapping[int, Mapping[str, Any]]) -> None:
        """Replace the thumbnails by those of ``samples``.

        Args:
            samples (Mapping[int, Mapping[str, Any]]): Sample id to its stored columns, as streaming
                decodes them. See :func:`~composer_dataagent.report.thumbnails.make_thumbnail`.
        """
        self._remove_samples()
        (self.path / PICTURES).mkdir(exist_ok=True)
        texts = {}
        for sample_id, columns in samples.items():
            thumbnail = make_thumbnail(columns)
            texts[int(sample_id)] = thumbnail["text"]
            if thumbnail["png"] is not None:
                write_atomically(self.path / PICTURES / f"{int(sample_id)}.png", thumbnail["png"])
        write_atomically(self.path / SAMPLES, _line(texts))

    def _rows_to_keep(
        self, meta: dict[str, Any], epoch: int, resumed: bool
    ) -> list[dict[str, Any]]:
        if not self.path.is_dir():
            return []
        try:
            before = read_meta(self.path)
            rows = read_rows(self.path)
        except ValueError:
            if self.overwrite:  # Nobody can go on from a damaged history.
                return []
            raise
        now = json.loads(_line(meta))  # as it would be read back
        for meta_of_a_start in (before, now):
            for name in _MAY_CHANGE:
                meta_of_a_start.pop(name, None)
        same_name = before.get("run_name") == now["run_name"]
        goes_on = self._is_mine or (same_name if resumed else before == now)
        if goes_on:
            return [row for row in rows if row["epoch"] < epoch]
        if not rows or (resumed and [row["epoch"] for row in rows] == list(range(epoch))):
            return rows
        if self.overwrite:
            return []
        whose = f"another run, {before.get('run_name')!r}"
        if same_name:
            differing = [k for k in {**before, **now} if before.get(k) != now.get(k)]
            settings = ", ".join(f"{k}={before.get(k)!r}, now {now.get(k)!r}" for k in differing)
            whose = f"a run of the same name with other settings ({settings})"
        raise FileExistsError(
            f"The run_dir {self.path} holds {len(rows)} epochs of {whose}: use another run_dir, or "
            "DataAgent(..., overwrite=True) to replace them"
        )

    def _remove_ledger_and_samples(self) -> None:
        (self.path / LEDGER).unlink(missing_ok=True)
        self._remove_samples()

    def _remove_samples(self) -> None:
        # Only files that this class wrote: the folder is the user's.
        (self.path / SAMPLES).unlink(missing_ok=True)
        for picture in (self.path / PICTURES).glob("*.png"):
            if picture.stem.isdecimal():
                picture.unlink()


def _line(value: Mapping[Any, Any]) -> bytes:
    return json.dumps(_strict(value), allow_nan=False).encode() + b"\n"


def _strict(value: Any) -> Any:
    """``value`` as strict JSON knows it: NumPy's types become builtins, NaN and infinity null."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
