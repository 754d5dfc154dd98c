# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is secret in a recipe is in no file of its run, and in no report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from parsed_page import ParsedPage

from composer_dataagent.recipes import Recipe, train
from composer_dataagent.report import read_run, write_page
from composer_dataagent.report.secrets import HIDDEN


def test_users_of_urls_are_in_no_file(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    for secret in ("very-secret", "changed-secret"):  # it goes on: that is no setting
        remote = f"train_loader.dataset.remote=s3://me:{secret}@bucket/digits"
        train(recipe(remote, "trainer.max_duration=1ep"))
    page = write_page([read_run(run_dir)], run_dir / "report.html")
    assert f"s3://{HIDDEN}@bucket/digits" in ParsedPage(page).texts["dd"]
    for path in run_dir.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".html", ".csv"):
            assert "-secret" not in path.read_text()
