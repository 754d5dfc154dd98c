# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Serve exactly these ids: selection, and nothing else, on top of streaming's own machinery."""

from __future__ import annotations

from composer_dataagent.streaming.attach import FETCHES, StreamingAttachment, attach
from composer_dataagent.streaming.attachment import Attachment, Ids
from composer_dataagent.streaming.costs import Costs
from composer_dataagent.streaming.errors import (
    RankEndedError,
    RankMissingError,
    SelectionCorruptError,
    SelectionError,
    SelectionMissingError,
    ShardError,
    ShortEpochError,
)
from composer_dataagent.streaming.select import clear, select
from composer_dataagent.streaming.store import SelectionRecord
from composer_dataagent.streaming.tally import Egress

__all__ = [
    "FETCHES",
    "Attachment",
    "Costs",
    "Egress",
    "Ids",
    "RankEndedError",
    "RankMissingError",
    "SelectionCorruptError",
    "SelectionError",
    "SelectionMissingError",
    "SelectionRecord",
    "ShardError",
    "ShortEpochError",
    "StreamingAttachment",
    "attach",
    "clear",
    "select",
]
