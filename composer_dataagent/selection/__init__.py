# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which ids next? From a ledger of what was seen to the samples of the coming epoch."""

from __future__ import annotations

from composer_dataagent.selection.egress import Units, shard_units
from composer_dataagent.selection.foresight import foresee
from composer_dataagent.selection.gumbel import gumbel_keys, quick_rank01, rank01
from composer_dataagent.selection.ledger import LEDGER_COLUMNS, MAX_EPOCH, Ledger
from composer_dataagent.selection.mislabel import (
    MISLABEL_GATE_SHARE,
    label_trust,
    mislabel_flags,
    update_agreement,
)
from composer_dataagent.selection.schedule import RatioSchedule, size_for
from composer_dataagent.selection.selectors import (
    SELECTORS,
    Rows,
    Selection,
    Selector,
    build_selector,
    register_selector,
    selector_names,
)

__all__ = [
    "LEDGER_COLUMNS",
    "MAX_EPOCH",
    "MISLABEL_GATE_SHARE",
    "SELECTORS",
    "Ledger",
    "RatioSchedule",
    "Rows",
    "Selection",
    "Selector",
    "Units",
    "build_selector",
    "foresee",
    "gumbel_keys",
    "label_trust",
    "mislabel_flags",
    "quick_rank01",
    "rank01",
    "register_selector",
    "selector_names",
    "shard_units",
    "size_for",
    "update_agreement",
]
