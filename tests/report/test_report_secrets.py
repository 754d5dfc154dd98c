# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Keys and passwords of a recipe are in no file of its run, and in no report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsed_page import ParsedPage

from composer_dataagent.recipes import load_recipe, train
from composer_dataagent.recipes.demo import RECIPE
from composer_dataagent.recipes.digits import prepare_digits
from composer_dataagent.report import read_run, write_page
from composer_dataagent.report.secrets import HIDDEN, hidden

SECRET = [
    *("api_key", "apikey", "API_KEY", "wandb_api_key", "AWS_SECRET_ACCESS_KEY", "password"),
    *("secret", "auth_token", "access_token", "aws_access_key_id", "passwd", "credentials"),
]
OPEN = ["end_token", "text_key", "max_tokens", "key", "token_length", "tokenizer", "lr", "monkey"]


@pytest.mark.parametrize("name", SECRET)
def test_what_is_called_secret_is_hidden(name: str) -> None:
    assert hidden({"loggers": {"x": {name: "abc"}}}) == {"loggers": {"x": {name: HIDDEN}}}
    assert hidden({name: ["abc", "def"]}) == {name: HIDDEN} and hidden("abc", f"a.{name}") == HIDDEN
    assert hidden({name: None}) == {name: None}


@pytest.mark.parametrize("name", OPEN)
def test_what_is_not_is_shown(name: str) -> None:
    assert hidden({name: "abc"}) == {name: "abc"}


def test_users_in_urls() -> None:
    assert hidden("http://me:pass@host:5000/x") == f"http://{HIDDEN}@host:5000/x"
    assert hidden(["s3://bucket/a@b"]) == ["s3://bucket/a@b"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(alphabet="abc/.=", max_size=9),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(OPEN), inner),
    )
)
def test_without_secrets_nothing_changes(value: Any) -> None:
    assert hidden(value) == value


def test_of_a_whole_run(tmp_path: Path) -> None:
    digits = prepare_digits(tmp_path / "digits")
    run_dir = tmp_path / "run"

    def recipe(secret: str) -> Any:
        return load_recipe(
            RECIPE,
            [
                f"run_dir={run_dir}",
                f"train_loader.dataset.local={digits / 'train'}",
                f"train_loader.dataset.remote=s3://me:{secret}@bucket/digits",
                f"eval_loader.dataset.local={digits / 'eval'}",
                "trainer.max_duration=1ep",
                "trainer.progress_bar=false",
            ],
        )

    train(recipe("very-secret"))
    train(recipe("changed-secret"))  # it goes on: that is no setting
    page = write_page([read_run(run_dir)], run_dir / "report.html")
    assert f"s3://{HIDDEN}@bucket/digits" in ParsedPage(page).texts["dd"]
    for path in run_dir.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".html", ".csv"):
            assert "-secret" not in path.read_text()
