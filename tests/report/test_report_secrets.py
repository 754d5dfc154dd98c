# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is called a key or a password, and nothing else, is hidden."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
