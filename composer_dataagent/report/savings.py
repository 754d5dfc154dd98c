# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a selection saved against full data, in words: samples, time, bytes, money, and accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from composer_dataagent.report import wording
from composer_dataagent.report.run import Run, epochs_done
from composer_dataagent.report.settings import selector_of, settings_of
from composer_dataagent.report.summary import group_runs, main_metric, summarise_group
from composer_dataagent.report.wording import number

# More lines than this are a table, and there is one.
MOST_LINES = 6
# Below it, a difference is none that one would see.
_SAME = 0.005
_HOUR = 3600


@dataclass(frozen=True)
class Saving:
    """What is said of a group of runs.

    Attributes:
        label (str): The group.
        against (str): What it is compared with, after the label.
        text (str): What it took less (or more) and how good it is.
        measured (bool): Whether runs on full data were compared; else it is an estimate.
    """

    label: str
    against: str
    text: str
    measured: bool


def savings(runs: Sequence[Run], dollars_per_hour: float | None = None) -> list[Saving]:
    """What the data agent saved against full data; where no run has one, what other rules saved.

    Runs are compared as they are if all have ended; else up to the last epoch that all of them
    finished. The time of full data is without what our own bookkeeping took of it, that of a
    selection is with it. Without a run on full data, the selection's own counts tell how many
    samples that would have trained on, and its own time for a sample, how long.

    Args:
        runs (Sequence[Run]): Any number.
        dollars_per_hour (float | None): What an hour of training costs. Default: time has no price.

    Returns:
        list[Saving]: In the order of the table, ``MOST_LINES`` at most.
    """
    groups = group_runs(run for run in runs if run.rows)
    metric = main_metric(runs)
    full = [group for group in groups.values() if selector_of(group[0]) == "full"]
    others = {key: group for key, group in groups.items() if selector_of(group[0]) != "full"}
    agents = {k: group for k, group in others.items() if selector_of(group[0]) == "data_agent"}
    found = (
        _saving(label, group, _nearest(group, full), metric, dollars_per_hour)
        for label, group in (agents or others).items()
    )
    return [saving for saving in found if saving is not None][:MOST_LINES]


def notes_on(
    saved: Sequence[Saving], rows: Sequence[Mapping[str, Any]], dollars_per_hour: float | None
) -> str:
    """How what :func:`savings` gave is meant.

    Args:
        saved (Sequence[Saving]): What it gave.
        rows (Sequence[Mapping[str, Any]]): From :func:`~composer_dataagent.report.summarise`.
        dollars_per_hour (float | None): As given to it.
    """
    notes = []
    if any(saving.measured for saving in saved):
        notes.append(
            "Time is that of training without evaluations: with what choosing took, and of full "
            "data without."
        )
    if any(not saving.measured for saving in saved):
        notes.append(
            "No run on all of the same data is there to compare with: the estimate is what as many "
            "epochs of it would have taken at this run's own time for a sample, without what "
            "choosing took."
        )
        if any(row["fetched"] is not None for row in rows):
            notes.append("What full data would fetch: composer-dataagent plan.")
    if dollars_per_hour is not None and saved:
        notes.append(f"An hour is reckoned at {wording.dollars(dollars_per_hour)}.")
    return " ".join(notes)


def _nearest(group: Sequence[Run], full: Sequence[Sequence[Run]]) -> Sequence[Run] | None:
    """Of the runs on the same full data, those whose settings are most like the group's."""
    size, own = group[0].meta.get("num_samples"), settings_of(group[0]).items()
    same = [each for each in full if each[0].meta.get("num_samples") == size]
    return max(same, key=lambda each: len(own & settings_of(each[0]).items()), default=None)


def _saving(
    label: str,
    group: Sequence[Run],
    full: Sequence[Run] | None,
    metric: str | None,
    dollars_per_hour: float | None,
) -> Saving | None:
    against = "against full data"
    if full is not None and not all(map(_has_ended, [*group, *full])):
        epochs = _last_common_epoch([*group, *full])
        if epochs is None:
            full = None
        else:
            group, full = _until(group, epochs), _until(full, epochs)
            against += f", after {wording.decimal(epochs)} {'epoch' if epochs == 1 else 'epochs'}"
    mine = summarise_group(label, group, metric)
    if full is None:
        against += ", as estimated"
        whole = _estimate(group, mine)
    else:
        whole = summarise_group("full", full, metric)
        lengths = _lengths(group), _lengths(full)
        if lengths[0] != lengths[1]:
            mine_and_whole = map(wording.decimal, lengths)
            against += " ({1} epochs of it, {0} here)".format(*mine_and_whole)
        if whole["seconds"] is not None:
            whole["seconds"] *= 1 - (whole["overhead"] or 0.0)
    parts = [
        _relative(mine["samples"], whole["samples"], "samples trained", "fewer"),
        _time(mine["seconds"], whole["seconds"], dollars_per_hour),
        _fetched(mine, whole),
        _in_all(mine, whole, dollars_per_hour),
        _quality(mine, whole, metric),
    ]
    text = ", ".join(filter(None, parts))
    return Saving(label, against, text, full is not None) if text else None


def _estimate(group: Sequence[Run], mine: Mapping[str, Any]) -> dict[str, Any]:
    """What as many epochs of full data would have taken, by the group's own counts."""
    shares = [number(run.rows[-1].get("share_of_full")) for run in group]
    share = math.fsum(shares) / len(shares)  # NaN if one is not known
    samples = mine["samples"] / share if mine["samples"] and share > 0 else None
    seconds = None
    if samples is not None and mine["seconds"] is not None:
        seconds = mine["seconds"] * (1 - (mine["overhead"] or 0.0)) / share
    unknown = ("accuracy", "accuracy_std", "fetched", "dollars")
    return {"samples": samples, "seconds": seconds} | dict.fromkeys(unknown)


def _has_ended(run: Run) -> bool:
    if run.standing is not None:
        return run.standing.state == "ended"
    epochs = number(run.meta.get("num_epochs"))
    return not epochs_done(run.rows) < epochs


def _lengths(group: Sequence[Run]) -> float:
    return max(round(epochs_done(run.rows), 6) for run in group)


def _last_common_epoch(runs: Sequence[Run]) -> float | None:
    """The latest time, in epochs done, at which each of the runs wrote a row."""
    times = [{_time_of(row) for row in run.rows} for run in runs]
    return max(set.intersection(*times), default=None)


def _until(group: Sequence[Run], epochs: float) -> list[Run]:
    return [
        replace(run, rows=[row for row in run.rows if _time_of(row) <= epochs]) for run in group
    ]


def _time_of(row: Mapping[str, Any]) -> float:
    return round(epochs_done([row]), 6)


def _relative(mine: float | None, whole: float | None, what: str, less: str) -> str | None:
    """``46 % fewer samples trained``."""
    if mine is None or not whole:
        return None
    share = 1 - mine / whole
    if abs(share) < _SAME:
        return f"as many {what}" if less == "fewer" else f"as much {what}"
    return f"{wording.percent(abs(share), 0)} {less if share > 0 else 'more'} {what}"


def _time(mine: float | None, whole: float | None, dollars_per_hour: float | None) -> str | None:
    text = _relative(mine, whole, "time", "less")
    if text is None or dollars_per_hour is None or mine is None or whole is None:
        return text
    return f"{text} ({_money((whole - mine) / _HOUR * dollars_per_hour)})"


def _money(saved: float) -> str:
    return f"{wording.dollars(abs(saved))} {'less' if saved >= 0 else 'more'}"


def _fetched(mine: Mapping[str, Any], whole: Mapping[str, Any]) -> str | None:
    """``12 GB and $0.60 less fetched``."""
    if mine["fetched"] is None or whole["fetched"] is None:
        return None
    size = whole["fetched"] - mine["fetched"]
    if abs(size) < _SAME * max(whole["fetched"], mine["fetched"], 1.0):
        return "as much fetched"
    text, less = wording.size(abs(size)), "less" if size > 0 else "more"
    if mine["dollars"] is None or whole["dollars"] is None:
        return f"{text} {less} fetched"
    saved = whole["dollars"] - mine["dollars"]
    if saved and (saved > 0) == (size > 0):
        return f"{text} and {wording.dollars(abs(saved))} {less} fetched"
    return f"{text} {less} fetched, for {_money(saved)}"


def _in_all(
    mine: Mapping[str, Any], whole: Mapping[str, Any], dollars_per_hour: float | None
) -> str | None:
    """Both prices together, where there are two."""
    known = [row[name] for row in (mine, whole) for name in ("dollars", "seconds")]
    if dollars_per_hour is None or None in known:
        return None
    of_time = (whole["seconds"] - mine["seconds"]) / _HOUR * dollars_per_hour
    return f"{_money(of_time + whole['dollars'] - mine['dollars'])} in all"


def _quality(mine: Mapping[str, Any], whole: Mapping[str, Any], metric: str | None) -> str | None:
    """``0.3 points better``, and whether seeds differ by as much."""
    if mine["accuracy"] is None or whole["accuracy"] is None:
        return None
    difference = mine["accuracy"] - whole["accuracy"]
    size = wording.difference(abs(difference), metric).lstrip("+")
    name = "" if wording.is_accuracy(metric) else f"{wording.metric_name(metric)} "
    if not any(digit in size for digit in "123456789"):
        text = "equally good" if not name else f"equal {name.strip()}"
    else:
        direction = {"higher": 1, "lower": -1}.get(wording.better(metric) or "")
        words = ("higher", "lower") if direction is None else ("better", "worse")
        text = f"{name}{size} {words[(direction or 1) * difference < 0]}"
    spreads = [row["accuracy_std"] for row in (mine, whole) if row["accuracy_std"] is not None]
    if not spreads:
        return f"{text} (one seed each)"
    return f"{text} (seeds differ by {wording.spread(max(spreads), metric)})"
