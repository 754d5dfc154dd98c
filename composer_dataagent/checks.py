# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What counts as a number among arguments: text and truth values do not."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TypeGuard


def is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a real number, of Python or NumPy; ``True`` is none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether ``value`` is an integer, of Python or NumPy; ``True`` is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)
