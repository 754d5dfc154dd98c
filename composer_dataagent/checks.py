# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is accepted as an argument."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TypeGuard


def is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a real number, of Python or NumPy; text and ``True`` are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether ``value`` is an integer, of Python or NumPy; ``True`` is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def require(holds: bool, name: str, value: object, accepted: str) -> None:
    """Refuse an argument of ``DataAgent``.

    Args:
        holds (bool): Whether it is accepted.
        name (str): The argument's.
        value (object): What was given.
        accepted (str): What it must be, as the message says it.

    Raises:
        ValueError: It is not accepted.
    """
    if not holds:
        raise ValueError(f"DataAgent: {name}={value!r} is not accepted; it must be {accepted}")
