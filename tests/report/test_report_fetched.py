# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a page says of what was fetched from a remote, and that it is silent where nothing was."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from digits_run import build_trainer, make_loader, write_shards
from parsed_page import ParsedPage
from report_rows import make_run
from rich.console import Console

from composer_dataagent import DataAgent
from composer_dataagent.report import Run, read_run, summarise, wording, write_page
from composer_dataagent.report.table import print_table, table_cells

HEADINGS = ["Data fetched", "Read requests", "Price of fetching"]


def row(epoch: int, size: float, requests: float, dollars: float) -> dict[str, Any]:
    fetched = {"egress_bytes": size, "egress_requests": requests, "egress_dollars": dollars}
    return {"epoch": epoch, "samples_seen": 100 * (epoch + 1), "share_of_full": 1.0, **fetched}


def remote_runs() -> list[Run]:
    """Two seeds, of which the second fetches twice as much."""
    return [
        make_run(
            "data_agent",
            [row(0, k * 4.2e9, k * 10_000, k * 0.4), row(1, k * 0.3e9, k * 2_345, k * 0.03)],
            seed=k,
        )
        for k in (1, 2)
    ]


def facts_of(page: ParsedPage) -> dict[str, str]:
    return dict(zip(page.texts["dt"], page.texts["dd"], strict=True))


def test_a_real_run(tmp_path: Path) -> None:
    loader = make_loader(str(tmp_path / "cache"), remote=write_shards(str(tmp_path / "remote")))
    agent = DataAgent(run_dir=str(tmp_path / "run"), costs={"dollars_per_gb": 1e6})
    trainer = build_trainer(loader, agent)
    trainer.fit()
    trainer.close()
    sizes = [path.stat().st_size for path in (tmp_path / "cache").glob("*.mds")]
    size, requests = sum(sizes), 2 * len(sizes)
    page = ParsedPage(write_page([read_run(tmp_path / "run")], tmp_path / "page.html"))
    facts = facts_of(page)
    expected = [f"{size / 1e3:.1f} kB", f"{requests}", f"${size / 1e3:.2f}"]
    assert [facts[heading] for heading in HEADINGS] == expected
    first = page.texts["th"].index(HEADINGS[0])
    assert page.texts["th"][first : first + 3] == HEADINGS
    assert page.texts["td"][first - 1 : first + 2] == expected
    assert "Data fetched" in page.texts["h3"]
    assert {"Data fetched (MB)", "Read requests"} <= set(page.texts["text"])
    assert any("downloaded from the remote store" in text for text in page.texts["p"])
    assert facts["costs.dollars_per_gb"] == "1000000.0"


def test_the_table_has_means_over_seeds_of_what_a_run_fetched_in_all() -> None:
    runs = [*remote_runs(), make_run("full", [{"epoch": 0, "samples_seen": 100}])]
    agent, full = summarise(runs)
    assert agent["fetched"] == pytest.approx(1.5 * 4.5e9)
    assert agent["requests"] == pytest.approx(1.5 * 12_345)
    assert agent["dollars"] == pytest.approx(1.5 * 0.43)
    assert full["fetched"] is full["requests"] is full["dollars"] is None
    cells = table_cells([agent, full])
    assert [cells[0][heading] for heading in HEADINGS] == ["6.75 GB", "18,518", "$0.65"]
    assert [cells[1][heading] for heading in HEADINGS] == [wording.UNKNOWN] * 3
    console = Console(file=io.StringIO(), width=200)
    print_table(runs, console)
    assert isinstance(console.file, io.StringIO)
    assert "6.75 GB" in console.file.getvalue() and "$0.65" in console.file.getvalue()


def test_large_amounts_are_drawn_in_gb(tmp_path: Path) -> None:
    page = ParsedPage(write_page(remote_runs(), tmp_path / "page.html"))
    assert "Data fetched (GB)" in page.texts["text"]
    assert facts_of(page)["Data fetched"] == "4.5 GB"  # of the seed that is shown


def test_a_run_that_fetched_nothing_more(tmp_path: Path) -> None:
    """All was on disk already."""
    run = make_run("data_agent", [row(0, 0, 0, 0.0)])
    facts = facts_of(ParsedPage(write_page([run], tmp_path / "page.html")))
    assert [facts[heading] for heading in HEADINGS] == ["0 B", "0", "$0.00"]


def test_rows_of_before_it_was_counted(tmp_path: Path) -> None:
    """A run that went on with a newer package: what is known is told."""
    old = {"epoch": 0, "samples_seen": 100, "share_of_full": 1.0}
    run = make_run(
        "data_agent", [old, row(1, 5e6, 10, 0.1), {**row(2, 0, 0, 0), "egress_bytes": None}]
    )
    page = ParsedPage(write_page([run], tmp_path / "page.html"))
    assert facts_of(page)["Data fetched"] == "5 MB"


def test_a_run_on_local_data_says_nothing_of_it(tmp_path: Path) -> None:
    run = make_run("data_agent", [{"epoch": 0, "samples_seen": 100, "share_of_full": 1.0}])
    page = ParsedPage(write_page([run], tmp_path / "page.html"))
    text = (tmp_path / "page.html").read_text()
    assert not set(HEADINGS) & {*page.texts["th"], *page.texts["dt"], *page.texts.get("h3", [])}
    assert "fetched" not in text.lower() and "remote" not in text.lower()
