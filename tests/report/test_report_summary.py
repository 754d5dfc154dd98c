# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The numbers of the table, by hand, and how they are written."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from report_rows import make_run
from rich.console import Console

from composer_dataagent.report import summarise, wording
from composer_dataagent.report.summary import group_runs, main_metric
from composer_dataagent.report.table import print_table


def row(epoch: int, accuracy: float | None, **facts: Any) -> dict[str, Any]:
    metrics = {} if accuracy is None else {"metrics": {"eval/Loss": 9.0, "eval/Accuracy": accuracy}}
    return {"epoch": epoch, "seconds": 10.0, "agent_seconds": 0.5, **metrics, **facts}


def test_by_hand() -> None:
    full = make_run("full", [row(0, 0.8, samples_seen=100, share_of_full=1.0)] * 2)
    one = make_run(
        "data_agent",
        [
            row(0, 0.5, samples_seen=100, share_of_full=1.0),
            row(1, 0.7, samples_seen=150, share_of_full=0.75),
        ],
        seed=0,
    )
    two = make_run(
        "data_agent",
        [
            row(0, 0.9, samples_seen=100, share_of_full=1.0),
            row(1, None, samples_seen=130, share_of_full=0.65, seconds=20.0, agent_seconds=2.5),
        ],
        seed=1,
    )
    assert summarise([one, full, two]) == [
        {
            "selector": "data_agent",
            "seeds": 2,
            "metric": "eval/Accuracy",
            "accuracy": pytest.approx(0.8),
            "accuracy_std": pytest.approx(0.02**0.5),
            "difference": pytest.approx(0.0),
            "samples": 140.0,
            "share_of_full": pytest.approx(0.7),
            "seconds": 25.0,
            "overhead": pytest.approx(4.0 / 50.0),
        },
        {
            "selector": "full",
            "seeds": 1,
            "metric": "eval/Accuracy",
            "accuracy": pytest.approx(0.8),
            "accuracy_std": None,
            "difference": pytest.approx(0.0),
            "samples": 100.0,
            "share_of_full": 1.0,
            "seconds": 20.0,
            "overhead": pytest.approx(0.05),
        },
    ]


def test_without_metrics_and_without_rows() -> None:
    (summary,) = summarise([make_run("random", [row(0, None, samples_seen=7)])])
    assert summary["accuracy"] is summary["metric"] is summary["difference"] is None
    assert summary["samples"] == 7.0
    (summary,) = summarise([make_run("random", [])])
    assert summary["seeds"] == 1
    unknown = ("accuracy", "accuracy_std", "samples", "share_of_full", "seconds", "overhead")
    assert all(summary[name] is None for name in unknown)
    assert summarise([]) == []


def test_a_final_accuracy_that_was_not_a_number_is_unknown() -> None:
    rows = [row(0, 0.5), {"epoch": 1, "metrics": {"eval/Accuracy": None}}]
    assert summarise([make_run("random", rows)])[0]["accuracy"] is None


def test_runs_of_other_settings_are_not_averaged() -> None:
    runs = [make_run("random", [], ratio=0.3), make_run("random", [], ratio=0.5, seed=1)]
    runs += [make_run("random", [], ratio=0.3, seed=2), make_run("full", [], ratio=0.7)]
    groups = group_runs(runs)
    assert list(groups) == ["random, ratio 0.3", "random, ratio 0.5", "full"]
    assert [len(group) for group in groups.values()] == [2, 1, 1]


def test_the_main_metric() -> None:
    def run(*names: str) -> Any:
        return make_run("random", [{"epoch": 0, "metrics": dict.fromkeys(names, 1.0)}])

    assert main_metric([run("eval/Loss", "eval/MulticlassAccuracy")]) == "eval/MulticlassAccuracy"
    assert main_metric([run("eval/Loss"), run("eval/Other")]) == "eval/Loss"
    assert main_metric([run()]) is None


def test_the_printed_table() -> None:
    console = Console(file=io.StringIO(), width=200)
    rows = [row(0, 0.75, samples_seen=1200, share_of_full=1.0)]
    print_table([make_run("full", rows), make_run("[red]mine", [])], console)
    assert isinstance(console.file, io.StringIO)
    *head, full, mine = console.file.getvalue().splitlines()
    assert "Accuracy" in "".join(head) and "Samples" in "".join(head)
    dash = wording.UNKNOWN
    assert [re.split(r"  +", line.strip()) for line in (full, mine)] == [
        ["full", "75.0 %", "0.0 points", "1,200", "100.0 %", "10 s", "5.0 %", "1"],
        ["[red]mine", *[dash] * 6, "1"],
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (wording.percent(0.9831), "98.3 %"),
        (wording.percent(None), wording.UNKNOWN),
        (wording.count(12345.4), "12,345"),
        (wording.count(float("nan")), wording.UNKNOWN),
        (wording.duration(0.26), "0.3 s"),
        (wording.duration(9.96), "10 s"),
        (wording.duration(59.6), "1 min 0 s"),
        (wording.duration(72.3), "1 min 12 s"),
        (wording.duration(3661), "1 h 1 min"),
        (wording.duration(None), wording.UNKNOWN),
        (wording.metric(0.5, "eval/BinaryAccuracy"), "50.0 %"),
        (wording.metric(2.34567, "eval/CrossEntropy"), "2.346"),
        (wording.difference(0.0041, "Accuracy"), "+0.4 points"),
        (wording.difference(-0.0141, "Accuracy"), "\N{MINUS SIGN}1.4 points"),
        (wording.difference(-0.0001, "Accuracy"), "0.0 points"),
        (wording.difference(0.0, "Loss"), "0"),
        (wording.difference(0.25, "Loss"), "+0.25"),
        (wording.spread(0.0021, "Accuracy"), "± 0.2"),
        (wording.spread(None, "Accuracy"), ""),
        (wording.short("a\nb \x00 \ud800 c" + "d" * 9, 9), "a b cddd…"),
    ],
)
def test_numbers_as_people_write_them(written: str, expected: str) -> None:
    assert written == expected
