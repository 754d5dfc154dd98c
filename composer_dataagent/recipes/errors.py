# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a recipe, and how to say so."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class RecipeError(ValueError):
    """A recipe cannot be built; the message names the key and what it accepts."""


def unknown(what: str, name: object, accepted: Sequence[str]) -> RecipeError:
    """The error for a name that is none of the accepted ones, with the closest of them.

    Args:
        what (str): The key, and what kind of thing it names.
        name (object): What was given.
        accepted (Sequence[str]): All that would have been right.
    """
    close = difflib.get_close_matches(str(name), accepted, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    choices = ", ".join(accepted) or "nothing"
    return RecipeError(f"{what} {name!r} is not known.{hint} Accepted: {choices}")


def at_least(least: int, **numbers: int) -> None:
    """Refuse arguments that are too small, by their names.

    Raises:
        ValueError: One is below ``least``.
    """
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name}={number} is too small: give at least {least}")


def need_columns(shards: Iterable[Any], **columns: str) -> None:
    """Refuse shards that lack a column; the first sample would end in a ``KeyError``.

    Args:
        shards (Iterable[Any]): Streaming's readers.
        **columns (str): What each is for, and its name.

    Raises:
        ValueError: One is not there.
    """
    for shard in shards:
        there = getattr(shard, "column_names", None)
        for use, name in columns.items():
            if there is not None and name not in there:
                raise ValueError(
                    f"{use}={name!r} is no column of the shards, which have {', '.join(there)}"
                )
