# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Keys and passwords that settings may hold, and that no file of a run should."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "(hidden)"
# Not every name that ends in `token` or `key`: recipes have `end_token` and `text_key`.
_NAMES = re.compile(
    r"(.*[_-])?(api_?key|access_?key(_?id)?|secret(_?(access_?)?key)?|private_?key|passw(or)?d"
    r"|passphrase|(auth|access|bearer|api|session|refresh)_?token|credentials?)",
    re.IGNORECASE,
)
# user:password@ of a URL
_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def hidden(value: Any, name: str = "") -> Any:
    """A setting without what is secret in it.

    Args:
        value (Any): Plain values, lists and mappings.
        name (str): What it is called. Default: nothing that says anything.

    Returns:
        Any: The same, where a name says that it is secret (``api_key``, ``password``, ...), or a
        URL has a user in it, ``(hidden)`` in place of that.
    """
    if isinstance(value, dict):
        return {key: hidden(inner, str(key)) for key, inner in value.items()}
    if value is not None and value != "" and _NAMES.fullmatch(name.rpartition(".")[2]):
        return HIDDEN
    if isinstance(value, list | tuple):
        return [hidden(inner, name) for inner in value]
    return _IN_URL.sub(HIDDEN, value) if isinstance(value, str) else value
