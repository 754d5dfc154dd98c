# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers as people write them; what is not known is an en dash."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

from composer_dataagent.units import bytes_in_words

UNKNOWN = "\N{EN DASH}"
# In the names of Composer's and torchmetrics' metrics.
_HIGHER_IS_BETTER = ("accuracy", "precision", "recall", "f1", "iou", "auroc", "dice", "rouge")
_LOWER_IS_BETTER = ("loss", "entropy", "perplexity", "error")


def number(value: Any) -> float:
    """``value`` if it is a finite number, else NaN: rows hold None where nothing was measured."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known and abs(value) <= sys.float_info.max else math.nan


def is_accuracy(metric: str | None) -> bool:
    """Whether a metric is a share of correct answers, which is written in percent."""
    return metric is not None and "accuracy" in metric.lower()


def better(metric: str | None) -> str | None:
    """``higher`` or ``lower``, whichever is better; None of a metric whose name does not tell."""
    name = (metric or "").lower()
    known = {"higher": _HIGHER_IS_BETTER, "lower": _LOWER_IS_BETTER}
    return next((which for which, words in known.items() if any(w in name for w in words)), None)


def metric_name(metric: str | None) -> str:
    """What a metric is called, without the name of the usual evaluator before it."""
    return "Evaluation" if metric is None else short(metric.removeprefix("eval/"), 40)


def percent(share: float | None, digits: int = 1) -> str:
    """``0.983`` as ``98.3 %``."""
    return UNKNOWN if _unknown(share) else f"{100 * number(share):.{digits}f} %"


def count(amount: float | None) -> str:
    """``12345`` as ``12,345``."""
    return UNKNOWN if _unknown(amount) else f"{number(amount):,.0f}"


def size(amount: float | None) -> str:
    """Bytes: ``2.5e9`` as ``2.5 GB``, see :func:`~composer_dataagent.units.bytes_in_words`."""
    return UNKNOWN if _unknown(amount) else bytes_in_words(number(amount))


def dollars(amount: float | None) -> str:
    """``1234.4`` as ``$1,234``, ``0.123`` as ``$0.12``; two digits that count below a dime."""
    if _unknown(amount):
        return UNKNOWN
    value = number(amount)
    if value >= 99.995:
        return f"${value:,.0f}"
    if value == 0 or round(value, 2) >= 0.1:
        return f"${value:.2f}"
    if value < 0.0001:
        return "under $0.0001"
    return f"${value:.{1 - math.floor(math.log10(value))}f}"


def decimal(amount: float | None) -> str:
    """``1.50`` as ``1.5``, ``2.0`` as ``2``."""
    if _unknown(amount):
        return UNKNOWN
    return f"{number(amount):,.2f}".rstrip("0").rstrip(".")


def duration(seconds: float | None) -> str:
    """``72.3`` as ``1 min 12 s``; with a decimal below ten seconds, in hours and minutes above."""
    if _unknown(seconds):
        return UNKNOWN
    value = number(seconds)
    if round(value, 1) < 10:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def age(seconds: float) -> str:
    """How long ago, in the largest unit of which it is two or more: ``12 s``, ``3 min``."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def metric(value: float | None, name: str | None) -> str:
    """The value of a metric: accuracies in percent, others with four digits."""
    if is_accuracy(name):
        return percent(value)
    return UNKNOWN if _unknown(value) else f"{number(value):.4g}"


def difference(value: float | None, name: str | None) -> str:
    """A difference of two values of a metric, with its sign: ``+0.4 points`` for accuracies."""
    if _unknown(value):
        return UNKNOWN
    text = f"{100 * number(value):+.1f} points" if is_accuracy(name) else f"{number(value):+.3g}"
    # A difference that rounds to nothing has no sign.
    text = re.sub(r"^[+-](?=[0.]+( |$))", "", text)
    return text.replace("-", "\N{MINUS SIGN}")


def spread(std: float | None, name: str | None) -> str:
    """A standard deviation of a metric with ``±`` before it; nothing if not known."""
    if _unknown(std):
        return ""
    return f"± {100 * number(std):.1f}" if is_accuracy(name) else f"± {number(std):.2g}"


def short(text: object, length: int = 24) -> str:
    """``text`` on one line of at most ``length`` printable characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def _unknown(value: float | None) -> bool:
    return math.isnan(number(value))
