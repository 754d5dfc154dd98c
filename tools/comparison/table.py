# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Results as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from comparison.measures import Measure, measure_of
from comparison.methods import METHODS, RULES
from comparison.rows import values
from comparison.statistics import Difference, paired_difference

Rows = Sequence[Mapping[str, Any]]


def by_selector(rows: Rows) -> dict[str, list[Mapping[str, Any]]]:
    """Rows of each method, in the order of ``METHODS``."""
    found = {name: [row for row in rows if row["selector"] == name] for name in METHODS}
    return {name: of_name for name, of_name in found.items() if of_name}


def best_rule(rows: Rows) -> tuple[str | None, int]:
    """The rule with the best mean among the rows of one condition.

    Returns:
        tuple[str | None, int]: The rule, and over how many seeds: those that all rules have, for
        another seed is another task. ``None`` where there is no such seed.
    """
    measure, groups = measure_of(rows), by_selector(rows)
    found = {name: values(groups[name], measure.name) for name in RULES if name in groups}
    seeds = set.intersection(*map(set, found.values())) if found else set()
    if not seeds:
        return None, 0
    means = {name: np.mean([own[seed] for seed in seeds]) for name, own in found.items()}
    return measure.best(means, key=means.__getitem__), len(seeds)


def difference_to(rows: Rows, selector: str, other: str | None) -> Difference | None:
    """What one method reached minus what another did, over the seeds of one condition.

    In the unit of the measure: points, or nats.
    """
    groups = by_selector(rows)
    if other not in groups or selector not in groups or selector == other:
        return None
    measure = measure_of(rows)
    ours, theirs = (
        {seed: measure.scale * value for seed, value in values(groups[name], measure.name).items()}
        for name in (selector, other)
    )
    return paired_difference(ours, theirs)


def groups_of(rows: Rows) -> Iterator[tuple[str, float, dict[str, list[Mapping[str, Any]]]]]:
    """Source and ratio, and the rows of each of their conditions."""
    for source, ratio in sorted({(row["source"], row["ratio"]) for row in rows}):
        own = [row for row in rows if (row["source"], row["ratio"]) == (source, ratio)]
        conditions = dict.fromkeys(row["condition"] for row in own)
        yield source, ratio, {c: [row for row in own if row["condition"] == c] for c in conditions}


def with_mean(conditions: Mapping[str, Rows]) -> dict[str, Rows]:
    """The conditions, and last one named ``mean``: what a seed gave over all of them.

    Of a method, only seeds that have every condition are in it.
    """
    if len(conditions) < 2:
        return dict(conditions)
    name = measure_of(row for rows in conditions.values() for row in rows).name
    runs: dict[tuple[str, int], list[float]] = {}
    for row in (row for rows in conditions.values() for row in rows):
        runs.setdefault((row["selector"], row["seed"]), []).append(row[name])
    means = [
        {"selector": selector, "seed": seed, name: float(np.mean(found))}
        for (selector, seed), found in runs.items()
        if len(found) == len(conditions)
    ]
    return {**conditions, "mean": means}


def to_markdown(rows: Rows) -> str:
    """All tables of a results file."""
    parts = []
    for source, ratio, conditions in groups_of(rows):
        parts.append(f"## {source}, ratio {ratio:g}\n")
        measure = measure_of(row for own in conditions.values() for row in own)
        parts.append(f"{measure.title}, mean ± standard deviation over seeds (how many):\n")
        parts.append(_levels(conditions, measure))
        parts.append(
            f"\nPaired differences in {measure.unit} ({measure.sign}), with 95 % bootstrap "
            "intervals (of few seeds too narrow: they cover the mean in 75 % of all cases with 3 "
            "seeds, in 85 % with 5):\n"
        )
        parts.append(_differences(conditions, measure))
        parts.append("\nWhat it cost and whom it chose, as means over the conditions:\n")
        parts.append(_costs(conditions))
        parts.append("")
    return "\n".join(parts)


def _levels(conditions: Mapping[str, Rows], measure: Measure) -> str:
    names = dict.fromkeys(name for rows in conditions.values() for name in by_selector(rows))
    columns = with_mean(conditions)
    lines = [
        [name, *(_level(by_selector(rows).get(name, []), measure) for rows in columns.values())]
        for name in sorted(names, key=list(METHODS).index)
    ]
    return in_markdown(["selector", *columns], lines)


def _level(rows: Rows, measure: Measure) -> str:
    """Mean and deviation over seeds, and how many these are; empty where there is none."""
    found = measure.scale * np.array(list(values(rows, measure.name).values()))
    if not len(found):
        return ""
    spread = f" ± {found.std(ddof=1):.{measure.digits}f}" if len(found) > 1 else ""
    return f"{found.mean():.{measure.digits}f}{spread} ({len(found)})"


def _differences(conditions: Mapping[str, Rows], measure: Measure) -> str:
    lines = []
    for condition, rows in with_mean(conditions).items():
        best, seeds = best_rule(rows)
        for name in by_selector(rows):
            if name == "full" or name in RULES:
                continue
            cells = [
                interval(difference_to(rows, name, other), measure.digits)
                for other in ("full", "random", "short", best)
            ]
            lines.append([condition, name, *cells, f"{best} ({seeds})" if best else ""])
    return in_markdown(
        ["condition", "selector", "to full", "to random", "to short", "to best rule", "best rule"],
        lines,
    )


def interval(found: Difference | None, digits: int) -> str:
    """A difference in a table's cell, empty where there is none."""
    if found is None:
        return ""
    mean_, low, high = (f"{value:+.{digits}f}" for value in (found.mean, found.low, found.high))
    if found.seeds == 1:  # which says nothing of what seeds differ by
        return f"{mean_} (1 seed)"
    return f"{mean_} [{low}, {high}]"


def _costs(conditions: Mapping[str, Rows]) -> str:
    rows = [row for own in conditions.values() for row in own]
    noisy = [row for row in rows if row["wrong"] > 0]
    lines = []
    for name, own in by_selector(rows).items():
        shares = [row["wrong_selected"] / row["wrong"] for row in noisy if row["selector"] == name]
        churns = [row["churn"] for row in own if row["churn"] is not None]
        touched = [row["shards_touched"] for row in own if row.get("shards_touched") is not None]
        lines.append(
            [
                name,
                *(f"{100 * np.mean([row[key] for row in own]):.1f} %" for key in ("share", "cost")),
                f"{100 * np.mean([row['overhead'] for row in own]):.1f} %",
                f"{100 * np.mean([row['coverage'] for row in own]):.1f} %",
                f"{100 * np.mean(churns):.1f} %" if churns else "",
                f"{100 * np.mean(touched):.1f} %" if touched else "",
                f"{np.mean(shares):.2f}" if shares else "",
            ]
        )
    head = ["selector", "samples", "cost", "overhead", "coverage", "churn", "shards touched"]
    return in_markdown([*head, "wrong labels chosen / there"], lines)


def in_markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table, of its head and its cells."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))
