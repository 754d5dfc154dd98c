# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The samples of a run that are probably mislabelled, as a table for other programs."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from composer_dataagent.report import wording
from composer_dataagent.report.atomic import write_atomically
from composer_dataagent.report.examples import suspects
from composer_dataagent.report.run import Run

COLUMNS = (
    "rank",
    "sample_id",
    "label",
    "label_name",
    "predicted",
    "predicted_name",
    "label_probability",
    "predicted_probability",
    "agreement",
    "visits",
)
_PRINTED = 10
_NAME_LENGTH = 30
# What a spreadsheet takes for a formula; names of classes are not ours.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def list_suspects(run: Run, top: int | None = None) -> list[dict[str, Any]]:
    """The samples that are probably mislabelled, the most contradicted first.

    Args:
        run (Run): From :func:`~composer_dataagent.report.read_run`.
        top (int | None): How many at most. Default: all.

    Returns:
        list[dict[str, Any]]: A row of each, with the keys ``COLUMNS``: ``rank`` from 1; label and
        prediction as classes and by their names, None where unknown; the probabilities that the
        model gave both at the sample's last visit; ``agreement`` of model and label over all
        visits, in [0, 1]; ``visits``, in how many epochs the sample was trained on.

    Raises:
        ValueError: The run has no ledger yet, or a damaged one, or its samples have no labels.
    """
    if not run.ledger:
        raise ValueError(
            f"{run.path} has no ledger yet: it is written when the first epoch (or round) ends"
        )
    is_whole = {"label", "flagged", "loss", "max_prob"} <= set(run.ledger)
    if not is_whole or run.meta.get("num_samples") not in (None, len(run.ledger["label"])):
        raise ValueError(f"{run.path} has a damaged ledger: train again")
    if not (run.ledger["label"] >= 0).any():
        raise ValueError(
            f"The samples of {run.path} have no labels, so that none can be wrong: suspects are "
            "for classifiers"
        )
    return [_row(run, rank, i) for rank, i in enumerate(suspects(run.ledger)[:top].tolist(), 1)]


def write_suspects(rows: list[dict[str, Any]], path: str | Path, overwrite: bool = False) -> Path:
    """Write rows of :func:`list_suspects` as CSV (RFC 4180, UTF-8, a line of headings).

    A name that a spreadsheet would take for a formula gets an apostrophe before it.

    Args:
        rows (list[dict[str, Any]]): May be empty.
        path (str | Path): The file; its folder is made if absent.
        overwrite (bool): Replace a file that says something else: somebody may have worked in it.
            Default: ``False``.

    Returns:
        Path: The file.

    Raises:
        ValueError: ``path`` does not end in ``.csv``: what else is there may be needed.
        FileExistsError: There is such a file, and ``overwrite`` is false.
        OSError: ``path`` cannot be written.
    """
    path = Path(path)
    if path.suffix != ".csv":
        raise ValueError(f"{path} is not accepted; it must end in .csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([_cell(row[name]) for name in COLUMNS] for row in rows)
    data = text.getvalue().encode("utf-8", "replace")
    if not overwrite and path.exists() and path.read_bytes() != data:
        raise FileExistsError(
            f"{path} is there already and says something else: give another --out, or --overwrite"
        )
    write_atomically(path, data)
    return path


def print_suspects(run: Run, rows: list[dict[str, Any]]) -> None:
    """Print how many there are, and the first ones as a table."""
    console = Console()
    flagged, known = int(run.ledger["flagged"].sum()), int((run.ledger["label"] >= 0).sum())
    share = wording.percent(flagged / known)
    what = f"{wording.count(flagged)} of {wording.count(known)} labelled samples ({share})"
    console.print(f"{what} are probably mislabelled{'.' if not rows else ':'}\n", highlight=False)
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("sample", "label", "", "model says", ""):
        table.add_column(heading, justify="right" if heading in ("sample", "") else "left")
    for row in rows[:_PRINTED]:
        cells = (
            str(row["sample_id"]),
            wording.short(row["label_name"], _NAME_LENGTH),
            wording.percent(row["label_probability"]),
            wording.short(row["predicted_name"] or wording.UNKNOWN, _NAME_LENGTH),
            wording.percent(row["predicted_probability"]),
        )
        # As text: square brackets in a name are no markup.
        table.add_row(*map(Text, cells))
    console.print(table)
    if len(rows) > _PRINTED:
        console.print(f"… and {wording.count(len(rows) - _PRINTED)} more", highlight=False)
    console.print()


def _row(run: Run, rank: int, sample_id: int) -> dict[str, Any]:
    def value(column: str, nothing: float = math.nan) -> float:
        values = run.ledger.get(column)
        return nothing if values is None else float(values[sample_id])

    label, predicted = int(value("label")), int(value("predicted", -1))
    return {
        "rank": rank,
        "sample_id": sample_id,
        "label": label,
        "label_name": run.class_name(label),
        "predicted": predicted if predicted >= 0 else None,
        "predicted_name": run.class_name(predicted) if predicted >= 0 else None,
        "label_probability": math.exp(-max(value("loss"), 0.0)),
        "predicted_probability": value("max_prob"),
        "agreement": value("agreement"),
        "visits": int(value("visits", 0)),
    }


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else f"{value:.4g}"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
