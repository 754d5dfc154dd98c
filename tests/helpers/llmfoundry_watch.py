# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A callback for llm-foundry's YAML (``code_paths``): writes batches' ids, and may kill the run.

When is said by the environment and not by the YAML, so that the command of a killed run is the one
that it goes on with.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from composer.core import Callback
from composer.utils import dist
from llmfoundry.registry import callbacks  # pyright: ignore[reportMissingImports]

KILL_AFTER = "KILL_AFTER_BATCH"


@callbacks.register("watch")
class Watch(Callback):
    """Appends a line to ``folder`` for each batch; dies without warning when its time has come."""

    def __init__(self, folder: str) -> None:
        self.log = Path(folder, f"batches-{dist.get_global_rank()}.jsonl")

    def batch_start(self, state: Any, logger: Any) -> None:
        row = [int(state.timestamp.batch), state.train_dataloader.sample_ids.tolist()]
        with self.log.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def batch_checkpoint(self, state: Any, logger: Any) -> None:
        # llm-foundry has checkpoint savers come last: this batch is not saved yet.
        if os.environ.get(KILL_AFTER) == str(int(state.timestamp.batch)):
            os.kill(os.getpid(), signal.SIGKILL)
