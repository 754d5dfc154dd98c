# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The table of a comparison: the same cells in the page and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from composer_dataagent.report import wording
from composer_dataagent.report.run import Run
from composer_dataagent.report.summary import summarise

# Of a terminal, or of no terminal at all: numbers cut short would be worse than long lines.
MIN_WIDTH = 100


def table_cells(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Heading to text, for each row that :func:`~composer_dataagent.report.summarise` gave."""
    return [_cells(row) for row in rows]


def print_table(runs: Sequence[Run], console: Console | None = None) -> None:
    """Print what :func:`~composer_dataagent.report.summarise` says of ``runs``.

    Args:
        runs (Sequence[Run]): At least one.
        console (Console | None): Where to. Default: standard output.
    """
    rows = table_cells(summarise(runs))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, heading in enumerate(rows[0]):
        # Headings break between words, numbers never.
        words = Text(heading if position == 0 else heading.replace(" ", "\n"))
        justify = "left" if position == 0 else "right"
        table.add_column(words, justify=justify, vertical="bottom", no_wrap=True)
    for cells in rows:
        # As text: square brackets in a name are no markup.
        table.add_row(*(Text(cell) for cell in cells.values()))
    if console is None:
        console = Console()
        console.width = max(console.width, MIN_WIDTH)
    console.print(table)


def _cells(row: dict[str, Any]) -> dict[str, str]:
    metric = row["metric"]
    value = wording.metric(row["accuracy"], metric), wording.spread(row["accuracy_std"], metric)
    return {
        "Selector": wording.short(row["selector"], 60),
        wording.metric_heading(metric): " ".join(filter(None, value)),
        "Against full": wording.difference(row["difference"], metric),
        "Samples trained": wording.count(row["samples"]),
        "Share of full cost": wording.percent(row["share_of_full"]),
        "Wall time": wording.duration(row["seconds"]),
        "Agent overhead": wording.percent(row["overhead"]),
        "Seeds": wording.count(row["seeds"]),
    }
