# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Facts about shards and runs as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from composer_dataagent.report import wording

_FAULTS = 3


def show(facts: Mapping[str, Any], console: Console) -> None:
    """Print what was found.

    Args:
        facts (Mapping[str, Any]): Of :func:`~inspection.data.describe_data` or
            :func:`~inspection.runs.describe_run`.
        console (Console): Where to; what does not fit into its width is wrapped.
    """
    lines = _of_data(facts) if facts["kind"] == "shards" else _of_run(facts)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in lines:
        table.add_row(Text(name, "dim"), Text(text))  # as text: brackets are no markup
    console.print(Text(facts["where"], "bold"), table, "")


def _of_data(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    shards, of_shard = facts["samples_of_a_shard"], facts["stored_bytes_of_a_shard"]
    yield "samples", wording.count(facts["samples"])
    each = f"{_between(shards, wording.count)} samples and {_between(of_shard, wording.size)} each"
    yield "shards", f"{wording.count(facts['shards'])} ({facts['format']}), of {each}"
    yield (
        "columns",
        ", ".join(f"{wording.short(name, 60)} ({kind})" for name, kind in facts["columns"].items()),
    )
    if others := facts["shards_with_other_columns"]:
        yield "", f"{wording.count(others)} shards have other columns than the first"
    size = wording.size(facts["bytes"])
    if facts["stored_bytes"] != facts["bytes"]:
        size += f", {wording.size(facts['stored_bytes'])} as it is stored"
    yield "size", f"{size}; a sample has {wording.size(facts['mean_sample_bytes'])} in the mean"
    if spread := facts["sample_bytes"]:
        told = ", ".join(
            f"{name} {wording.size(spread[name])}"
            for name in spread
            if name not in ("of_samples", "of_shards")
        )
        yield (
            "sample sizes",
            f"{told} (of {wording.count(spread['of_samples'])} samples in "
            f"{wording.count(spread['of_shards'])} shards)",
        )
    yield "compression", ", ".join(facts["compression"])
    yield "hashes", ", ".join(facts["hashes"]) or "none"
    for name, about in facts["about"].items():
        yield name, _about(about)
    yield "fetch: samples", _ranged(facts)
    yield "files", _files(facts["file_faults"])
    for fault in (facts["file_faults"] or [])[:_FAULTS]:
        yield "", fault
    for number, sample in enumerate(facts["first_samples"]):
        for name, text in sample.items():
            yield f"sample {number}, {name}", text
    if facts["why_no_samples"]:
        yield "samples", f"cannot be shown: {facts['why_no_samples']}"


def _between(three: Mapping[str, float], say: Any) -> str:
    smallest, largest = say(three["smallest"]), say(three["largest"])
    return smallest if smallest == largest else f"{smallest} to {largest}"


def _about(about: Any) -> str:
    if not isinstance(about, Mapping):
        return wording.short(about, 200)
    told = {key: value for key, value in about.items() if value is not None}
    return ", ".join(
        f"{key.replace('_', ' ')}: "
        + wording.short(", ".join(map(str, value)) if isinstance(value, list) else value, 200)
        for key, value in told.items()
    )


def _ranged(facts: Mapping[str, Any]) -> str:
    reasons = "; ".join(
        f"{wording.size(size)} in shards that are {reason}"
        for reason, size in facts["not_ranged"].items()
    )
    if not reasons:
        return "works: samples can be read by themselves"
    if not facts["ranged_bytes"]:
        return f"does not work, whole shards are fetched: {reasons}"
    return f"works for {wording.size(facts['ranged_bytes'])}, but not for {reasons}"


def _files(faults: list[str] | None) -> str:
    if faults is None:
        return "not looked at: nothing tells their sizes here, short of downloading them"
    if not faults:
        return "all there, of the sizes that the index says"
    return f"{wording.count(len(faults))} are missing or of another size:"


def _of_run(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    def known(name: str, key: str, say: Any = str) -> Iterator[tuple[str, str]]:
        if facts[key] not in (None, [], ""):
            yield name, say(facts[key])

    yield "run", f"{facts['run_name']}, {'finished' if facts['finished'] else 'not finished'}"
    yield from known("model", "model")
    yield from known("trained on", "train_data")
    yield from known("evaluated on", "eval_data")
    yield from known("optimizer", "optimizer")
    yield from known("algorithms", "algorithms", ", ".join)
    yield from known("seed", "seed")
    yield from known("selector", "selector")
    yield from known("ratio", "ratio", wording.decimal)
    yield from known("samples in the data", "num_samples", wording.count)
    of = facts["of_epochs"] or facts["max_duration"]
    done = f"{wording.decimal(facts['epochs'])} epochs"
    yield "done", f"{done} of {of}" + (f", {facts['rows']} {facts['rows_are']} in the history")
    yield from known("samples trained", "samples_trained", wording.count)
    yield from known("share of full cost", "share_of_full_cost", wording.percent)
    metric = facts["metric"]
    if metric is not None:
        final = wording.metric(facts["final"], metric)
        best = "" if facts["best"] is None else f" (best {wording.metric(facts['best'], metric)})"
        yield wording.metric_name(metric), final + best
    yield from known("time", "seconds", wording.duration)
    yield from known("agent overhead", "agent_overhead", wording.percent)
    yield from known("fetched", "fetched_bytes", wording.size)
    yield from known("price of fetching", "fetched_dollars", wording.dollars)
    checkpoints = facts["checkpoints"]
    size = wording.size(sum(each["bytes"] for each in checkpoints))
    last = f", {size}, the last {Path(checkpoints[-1]['file']).name}" if checkpoints else ""
    yield "checkpoints", f"{len(checkpoints)}{last}"
