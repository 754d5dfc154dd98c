# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What happened in a run, and a page of it."""

from composer_dataagent.report.examples import choose_samples
from composer_dataagent.report.history import History
from composer_dataagent.report.page import write_page
from composer_dataagent.report.run import Run, read_run
from composer_dataagent.report.shard_groups import group_shards
from composer_dataagent.report.summary import summarise

__all__ = [
    "History",
    "Run",
    "choose_samples",
    "group_shards",
    "read_run",
    "summarise",
    "write_page",
]
