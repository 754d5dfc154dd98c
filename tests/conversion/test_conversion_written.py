# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``tools/write_passages.py`` and ``write_topics.py`` replace files only if that is asked for."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
import write_passages
import write_topics
from click.testing import CliRunner


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize(
    ("command", "options"),
    [
        (write_passages.main, ["--train", "8", "--evaluate", "4"]),
        (write_topics.main, []),
    ],
    ids=["passages", "topics"],
)
def test_files_that_are_there(
    tmp_path: Path,
    command: click.Command,
    options: list[str],
    split: str,
) -> None:
    (tmp_path / "out").mkdir()
    mine = tmp_path / "out" / f"{split}.jsonl"
    mine.write_text("mine")
    arguments = ["--out", str(tmp_path / "out"), *options]
    refused = CliRunner().invoke(command, arguments)
    assert refused.exit_code == 1 and "is there: give another --out" in refused.output
    assert [path.name for path in mine.parent.iterdir()] == [mine.name]
    assert mine.read_text() == "mine"
    written = CliRunner().invoke(command, [*arguments, "--overwrite"])
    assert written.exit_code == 0, written.output
    assert {path.name for path in mine.parent.iterdir()} == {"train.jsonl", "eval.jsonl"}
    assert mine.read_text() != "mine"
