# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Combinations of which the suite has some, and ``make test-grid`` the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def grid(cases: Iterable[tuple[Any, ...]], always: Collection[tuple[Any, ...]]) -> list[Any]:
    """Parameters of a test, with the mark ``grid`` on those that are not to run always."""
    return [pytest.param(*case, marks=() if case in always else pytest.mark.grid) for case in cases]
