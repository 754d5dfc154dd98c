# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a page says of runs that select several times in an epoch, and look before they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from digits_run import NUM_SAMPLES, build_trainer, make_map_loader
from parsed_page import ParsedPage
from report_rows import make_run

from composer_dataagent import DataAgent
from composer_dataagent.report import read_run, summarise, write_page
from composer_dataagent.report.table import table_cells


def page_of(folder: Path, max_duration: str = "1ep", **arguments: Any) -> ParsedPage:
    """Of a real run; the first round (or epoch) is full."""
    agent = DataAgent(ratio=0.5, run_dir=str(folder), **arguments)
    loader = make_map_loader(batch_size=8)
    trainer = build_trainer(
        loader, agent, max_duration=max_duration, eval_dataloader=make_map_loader()
    )
    trainer.fit()
    trainer.close()
    return ParsedPage(write_page([read_run(folder)], folder / "page.html"))


def facts_of(page: ParsedPage) -> dict[str, str]:
    return dict(zip(page.texts["dt"], page.texts["dd"], strict=True))


def test_rounds_are_not_called_epochs(tmp_path: Path) -> None:
    page = page_of(tmp_path, interval="0.25ep")
    facts = facts_of(page)
    assert facts["Epochs"] == "1" and facts["Rounds"] == "4"
    assert facts["num_epochs"] == "1"
    axes = page.texts["text"]
    assert "round" in axes and "epoch" not in axes
    # Of the samples that a round chose from, no class is known but of the chosen.
    assert "Who gets selected" not in page.texts["h3"]
    assert "Samples looked at" not in facts


def test_looks_are_in_the_cost(tmp_path: Path) -> None:
    page = page_of(tmp_path, interval="0.25ep", look=True)
    rows = read_run(tmp_path).rows
    samples, looked = rows[-1]["samples_seen"], sum(row["looked"] for row in rows)
    assert looked > NUM_SAMPLES / 2
    share = (samples + looked / 3) / NUM_SAMPLES
    facts = facts_of(page)
    assert facts["Samples trained"] == str(samples) and facts["Samples looked at"] == str(looked)
    assert facts["Share of full cost"] == f"{100 * share:.1f} %"
    assert "Samples looked at" in page.texts["th"]
    assert "samples trained on, and a third of those looked at" in page.texts["text"]
    assert any("costs a third of one that was trained on" in text for text in page.texts["p"])


@pytest.mark.parametrize("interval", [None, "0.25ep"])
def test_a_run_that_ends_inside_a_round_is_compared_with_as_much(
    tmp_path: Path, interval: str | None
) -> None:
    # Of 26 batches of a full epoch (or 7 of a full round), 6.
    facts = facts_of(page_of(tmp_path, max_duration="6ba", interval=interval))
    assert facts["Share of full cost"] == "100.0 %"  # what it trained on was not pruned
    assert facts["Samples trained"] == "48"
    assert facts["Epochs"] == "0.24"
    assert facts.get("Rounds") == (None if interval is None else "1")


def test_a_table_of_runs_of_which_some_look() -> None:
    def run(selector: str, looked: int) -> Any:
        row = {"epoch": 0, "samples_seen": 100, "share_of_full": 0.5, "looked": looked}
        return make_run(selector, [row])

    cells = table_cells(summarise([run("random", 0), run("loss", 60)]))
    assert [row["Samples looked at"] for row in cells] == ["0", "60"]
    assert [row["Share of full cost"] for row in cells] == ["50.0 %", "60.0 %"]
    assert "Samples looked at" not in table_cells(summarise([run("random", 0)]))[0]
