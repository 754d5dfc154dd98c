# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["good", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        level (Level): ``good``; ``note``, something to know; ``bad``, training would fail.
        what (str): What was looked at, and how it is.
        advice (str): What to do; empty where nothing is to be done.
    """

    level: Level
    what: str
    advice: str = ""
