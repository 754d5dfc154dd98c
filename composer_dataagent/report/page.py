# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""One HTML file about one or many runs, with nothing to load from elsewhere."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from composer_dataagent.report import wording
from composer_dataagent.report.atomic import write_atomically
from composer_dataagent.report.examples import CAPTIONS, choose_samples
from composer_dataagent.report.figures import RUN_PICTURES, draw_metric
from composer_dataagent.report.picture import Picture
from composer_dataagent.report.run import Run
from composer_dataagent.report.savings import notes_on, savings
from composer_dataagent.report.secrets import hidden
from composer_dataagent.report.settings import leaves, selector_of
from composer_dataagent.report.standing import states_of
from composer_dataagent.report.summary import group_runs, summarise
from composer_dataagent.report.svg import to_svg
from composer_dataagent.report.table import table_cells
from composer_dataagent.report.verdict import judge_run

TEMPLATE = "page.html.j2"
STYLES = "styles.css"
TITLE = "What the data agent selected"
_BEGINNING = b"<!DOCTYPE html>"
# More of a setting (class names, say) than this is cut.
SETTING_LENGTH = 300


def write_page(
    runs: Sequence[Run],
    path: str | Path,
    title: str = TITLE,
    dollars_per_hour: float | None = None,
) -> Path:
    """Write a page that compares runs and shows what happened in each.

    Runs that differ in their seed only share a row of the table and a line of the picture; of them
    the first is shown in detail. Of runs that go on, the page says how far they are.

    Args:
        runs (Sequence[Run]): At least one, from :func:`~composer_dataagent.report.read_run`.
        path (str | Path): The HTML file; its folder is made if absent.
        title (str): Heading of the page. Default: ``"What the data agent selected"``.
        dollars_per_hour (float | None): What an hour of training costs, of all machines together.
            Default: what was saved is told without it.

    Returns:
        Path: The file.

    Raises:
        ValueError: ``runs`` is empty.
        OSError: ``path`` cannot be written.
    """
    return write_described(describe_page(runs, title, dollars_per_hour), runs, path)


def describe_page(
    runs: Sequence[Run], title: str = TITLE, dollars_per_hour: float | None = None
) -> dict[str, Any]:
    """All that a page shows of runs but whether they go on, drawn; see :func:`write_page`.

    Raises:
        ValueError: ``runs`` is empty.
    """
    if not runs:
        raise ValueError(
            "write_page needs at least one run: pass read_run(run_dir) of a run folder"
        )
    groups, summaries = group_runs(runs), summarise(runs)
    metric = draw_metric(groups)
    details = [
        _describe_run(label, group[0], f"run{position}")
        for position, (label, group) in enumerate(groups.items())
    ]
    saved = savings(runs, dollars_per_hour)
    return {
        "title": title,
        "saved": saved,
        "saved_notes": notes_on(saved, summaries, dollars_per_hour),
        "table": table_cells(summaries),
        "looked": any(row["looked"] for row in summaries),
        "fetched": any(row["fetched"] is not None for row in summaries),
        "selector_count": len({selector_of(run) for run in runs}),
        "run_count": len(runs),
        "picture": None if metric is None else shown(metric, "metric"),
        "runs": details,
        "opened": _opened(details),
        "captions": CAPTIONS,
    }


def write_described(
    page: Mapping[str, Any],
    runs: Sequence[Run],
    path: str | Path,
    reload_seconds: float | None = None,
    suffix: str = ".tmp",
) -> Path:
    """Write what :func:`describe_page` gave, with what is known now of whether runs go on.

    Args:
        page (Mapping[str, Any]): What it gave.
        runs (Sequence[Run]): The runs, looked at just now.
        path (str | Path): The HTML file; its folder is made if absent.
        reload_seconds (float | None): The page loads itself again after so many. Default: never.
        suffix (str): See :func:`~composer_dataagent.report.atomic.write_atomically`.

    Returns:
        Path: The file.

    Raises:
        OSError: ``path`` cannot be written.
    """
    path = Path(path)
    text = render(
        TEMPLATE,
        **page,
        states=states_of(runs),
        written=time.strftime("%Y-%m-%d %H:%M:%S"),
        reload=None if reload_seconds is None else max(1, round(reload_seconds)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Lone surrogates in names cannot be written as UTF-8.
    write_atomically(path, text.encode("utf-8", "replace"), suffix)
    return path


def check_page(path: str | Path) -> None:
    """Refuse to replace a file that is no page.

    Raises:
        FileExistsError: There is such a file.
        OSError: It cannot be read.
    """
    path = Path(path)
    if path.exists():
        with open(path, "rb") as file:
            if file.read(len(_BEGINNING)) != _BEGINNING:
                raise FileExistsError(
                    f"{path} is there already, and no HTML page: give another --out, or --overwrite"
                )


def render(template: str, **values: Any) -> str:
    """Fill in a template of this folder.

    Args:
        template (str): Name of the file.
        **values (Any): What it uses, beside ``wording`` and ``styles``. All text is escaped; only
            our own SVG is markup.

    Returns:
        str: The page.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    folder = files(__package__ or "composer_dataagent.report")
    environment.globals["wording"] = wording
    environment.globals["styles"] = Markup(folder.joinpath(STYLES).read_text("utf-8"))
    return environment.from_string(folder.joinpath(template).read_text("utf-8")).render(**values)


def shown(picture: Picture, name: str) -> dict[str, Any]:
    """What a template shows of a picture.

    Args:
        picture (Picture): What was drawn.
        name (str): Unique in the page.

    Returns:
        dict[str, Any]: ``svg``, and the picture's own ``title``, ``caption``, ``wide``, ``table``.
    """
    svg = to_svg(picture.figure, name, picture.label)
    facts = ("title", "caption", "wide", "table")
    return {"svg": svg} | {fact: getattr(picture, fact) for fact in facts}


def _opened(details: Sequence[Mapping[str, Any]]) -> str:
    """Label of the run that is open at first: the first of the data agent, or the first."""
    agents = [run for run in details if selector_of(run["run"]) == "data_agent"]
    return (agents or details)[0]["label"]


def _describe_run(label: str, run: Run, name: str) -> dict[str, Any]:
    drawn = [draw(run) for draw in RUN_PICTURES]
    return {
        "label": label,
        "run": run,
        "facts": _facts(run),
        "remarks": judge_run(run),
        "pictures": [
            shown(picture, f"{name}-{i}") for i, picture in enumerate(drawn) if picture is not None
        ],
        "samples": _describe_samples(run),
        "settings": {
            key: _setting(hidden(value, key)) for key, value in leaves({**run.meta, **run.recipe})
        },
    }


def _facts(run: Run) -> dict[str, str]:
    """The run in a few numbers, those that are known."""
    last = run.rows[-1] if run.rows else {}
    shown = (
        "Samples trained",
        "Samples looked at",
        "Share of full cost",
        "Data fetched",
        "Read requests",
        "Price of fetching",
        "Wall time",
        "Agent overhead",
    )
    (summary,) = summarise([run])
    (cells,) = table_cells([summary])
    heading = wording.metric_name(summary["metric"])
    facts = {
        heading: cells[heading],
        "Epochs": wording.decimal(last.get("epochs")),
        "Rounds": wording.count(len(run.rows) if run.step == "round" else None),
        **{name: cells[name] for name in shown if name in cells},
        "Ever seen": wording.percent(last.get("coverage")),
        "Flagged as mislabelled": wording.count(last.get("flagged")),
        # Where it never happened, it is not worth a line.
        "Visits with NaN or infinity": wording.count(
            sum(n for row in run.rows if (n := wording.number(row.get("nonfinite"))) > 0) or None
        ),
        f"New in the last {run.step}": wording.percent(last.get("churn")),
    }
    return {name: value for name, value in facts.items() if value != wording.UNKNOWN}


def _describe_samples(run: Run) -> dict[str, list[dict[str, Any]]]:
    return {
        heading: [_describe_sample(run, i) for i in ids]
        for heading, ids in choose_samples(run.ledger).items()
    }


def _describe_sample(run: Run, sample_id: int) -> dict[str, Any]:
    def value(column: str) -> float:
        values = run.ledger.get(column)
        return math.nan if values is None else float(values[sample_id])

    thumbnail = run.samples.get(sample_id)
    png = thumbnail["png"] if thumbnail else None
    label, predicted = value("label"), value("predicted")
    differs = label >= 0 and predicted >= 0 and label != predicted
    return {
        "id": sample_id,
        "png": base64.b64encode(png).decode() if png else None,
        "text": thumbnail["text"] if thumbnail else None,
        "class": run.class_name(int(label)) if label >= 0 else None,
        "predicted": run.class_name(int(predicted)) if differs else None,
        "visits": value("visits"),
        "loss": value("loss"),
    }


def _setting(value: Any) -> str:
    if value is None:
        return wording.UNKNOWN
    if isinstance(value, list | tuple | np.ndarray):
        value = ", ".join(map(str, value))
    return wording.short(value, SETTING_LENGTH)
