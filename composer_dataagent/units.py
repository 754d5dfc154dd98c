# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Bytes as people write them. It imports nothing, so that all rooms can say them alike."""

from __future__ import annotations


def bytes_in_words(amount: float) -> str:
    """``2.5e9`` as ``2.5 GB``, in powers of 1000, as clouds count them."""
    for factor, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if amount >= 0.9995 * factor:
            scaled = amount / factor
            return f"{scaled:,.0f} {unit}" if scaled >= 100 else f"{scaled:.3g} {unit}"
    return f"{amount:.0f} B"
