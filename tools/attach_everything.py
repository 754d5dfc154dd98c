# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: every StreamingDataset is attached as soon as it is made, all of it selected.

Streaming's own tests then say whether an attached dataset still is what it was. In a checkout of
mosaicml/streaming at the version that is installed:

    PYTHONPATH=<this folder> python -m pytest -p attach_everything tests/test_streaming.py ...

Datasets that cannot be attached (``choose``, ``repeat`` and the like) stay as they are; it is told
at the end how many did.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from streaming import StreamingDataset

from composer_dataagent.streaming import select

_outcomes: Counter[str] = Counter()
_make = StreamingDataset.__init__


def _make_and_attach(self: Any, *args: Any, **kwargs: Any) -> None:
    _make(self, *args, **kwargs)
    try:
        select(self, range(self.num_samples))
        _outcomes["attached"] += 1
    except ValueError as error:
        _outcomes[f"left alone: {str(error)[:60]}"] += 1


StreamingDataset.__init__ = _make_and_attach


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many datasets were attached."""
    for outcome, count in _outcomes.most_common():
        terminalreporter.write_line(f"{count} datasets {outcome}")
