# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Train on the samples that are worth it now, and stream only those.

``DataAgent`` is a MosaicML Composer algorithm; ``select`` serves a subset of any StreamingDataset
without it. Both are imported on first use, because Composer takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from composer_dataagent.algorithm import DataAgent
    from composer_dataagent.streaming import attach, clear, select

__all__ = ["DataAgent", "attach", "clear", "select"]


def __getattr__(name: str) -> Any:
    if name == "DataAgent":
        from composer_dataagent.algorithm import DataAgent

        return DataAgent
    if name in ("attach", "clear", "select"):
        from composer_dataagent import streaming

        return getattr(streaming, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
