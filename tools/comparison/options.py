# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Lists as options of commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click


class Names(click.ParamType):
    """Several names of a list, separated by commas."""

    def __init__(self, known: Sequence[str]) -> None:
        self.known = known
        self.name = "NAMES"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """Text to names."""
        names = tuple(value.split(",")) if isinstance(value, str) else tuple(value)
        for name in names:
            if name not in self.known:
                self.fail(f"{name!r} is not one of {', '.join(self.known)}", param, ctx)
        return tuple(dict.fromkeys(names))


class Ratios(click.ParamType):
    """Several ratios, separated by commas."""

    name = "RATIOS"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        """Text to numbers."""
        if not isinstance(value, str):
            return value
        try:
            ratios = tuple(float(text) for text in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers, for example 0.3,0.5", param, ctx)
        if not all(0 < ratio <= 1 for ratio in ratios):
            self.fail(f"{value!r}: a ratio is in (0, 1]", param, ctx)
        return tuple({f"{ratio:g}": ratio for ratio in ratios}.values())  # as folders name them
