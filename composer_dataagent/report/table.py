# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The table of a comparison: the same cells in the page and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.segment import Segment, SegmentLines
from rich.style import Style
from rich.table import Table
from rich.text import Text

from composer_dataagent.report import wording
from composer_dataagent.report.run import Run
from composer_dataagent.report.summary import summarise

LABEL = "Selector"
LABEL_LENGTH = 200
UNLIMITED = 10_000
Lines = list[list[Segment]]


def table_cells(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Heading to text, for each row that :func:`~composer_dataagent.report.summarise` gave."""
    looked = any(row["looked"] for row in rows)
    fetched = any(row["fetched"] is not None for row in rows)
    return [_cells(row, looked, fetched) for row in rows]


def print_table(runs: Sequence[Run], console: Console | None = None) -> None:
    """Print what :func:`~composer_dataagent.report.summarise` says of ``runs``.

    Args:
        runs (Sequence[Run]): At least one.
        console (Console | None): Where to. Default: standard output.
    """
    print_cells(table_cells(summarise(runs)), console)


def print_cells(rows: Sequence[Mapping[str, str]], console: Console | None = None) -> None:
    """Print a table.

    In a terminal that is too narrow for it each label stands above its numbers. Nothing is cut:
    numbers cut short would be worse than long lines.

    Args:
        rows (Sequence[Mapping[str, str]]): Heading to text, at least one row; the first column is
            the label.
        console (Console | None): Where to. Default: standard output.
    """
    console = console or Console()
    label = next(iter(rows[0]))
    lines = _lines(rows, console, label)
    if console.is_terminal and max(map(Segment.get_line_length, lines)) > console.width:
        lines = _stacked_lines(rows, console, label)
    console.print(SegmentLines(lines, new_lines=True), crop=False)


def _stacked_lines(rows: Sequence[Mapping[str, str]], console: Console, label: str) -> Lines:
    numbers = [{name: cell for name, cell in cells.items() if name != label} for cells in rows]
    lines = [[Segment("  "), *line] for line in _lines(numbers, console, label)]
    first = len(lines) - len(rows)  # above it are the headings
    labelled = [
        each
        for cells, line in zip(rows, lines[first:], strict=True)
        for each in ([Segment(cells[label], Style(bold=True))], line)
    ]
    return lines[:first] + labelled


def _lines(rows: Sequence[Mapping[str, str]], console: Console, label: str) -> Lines:
    """Headings, of as many lines as they have words, and a line for each row."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in rows[0]:
        justify = "left" if heading in (LABEL, next(iter(rows[0]))) else "right"
        words = Text(heading.replace(" ", "\n"))
        table.add_column(words, justify=justify, vertical="bottom", no_wrap=True)
    for cells in rows:
        # As text: square brackets in a name are no markup.
        table.add_row(*(Text(cell) for cell in cells.values()))
    return console.render_lines(table, console.options.update(width=UNLIMITED), pad=False)


def _cells(row: dict[str, Any], looked: bool, fetched: bool) -> dict[str, str]:
    metric = row["metric"]
    value = wording.metric(row["accuracy"], metric), wording.spread(row["accuracy_std"], metric)
    seeds = wording.count(row["seeds"])
    if row["runs"] > row["seeds"]:
        seeds += f" ({wording.count(row['runs'])} runs)"
    # Of what was fetched from elsewhere, if anything can be.
    egress = {
        "Data fetched": wording.size(row["fetched"]),
        "Read requests": wording.count(row["requests"]),
        "Price of fetching": wording.dollars(row["dollars"]),
    }
    return {
        LABEL: wording.short(row["selector"], LABEL_LENGTH),
        wording.metric_name(metric): " ".join(filter(None, value)),
        "Against full": wording.difference(row["difference"], metric),
        "Samples trained": wording.count(row["samples"]),
        # Few runs look at samples: without one that does it is no column.
        **({"Samples looked at": wording.count(row["looked"])} if looked else {}),
        "Share of full cost": wording.percent(row["share_of_full"]),
        **(egress if fetched else {}),
        "Wall time": wording.duration(row["seconds"]),
        "Agent overhead": wording.percent(row["overhead"]),
        "Seeds": seeds,
    }
