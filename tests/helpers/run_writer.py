# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Another process that writes a run folder, as training does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# With a child, as a loader's worker is one, that does not end with it.
_SCRIPT = """
import os, sys, time
from composer_dataagent.report import History

history = History(sys.argv[1])
history.begin({"run_name": "mine", "selector": "random", "num_epochs": 10}, epoch=0)
for epoch in range(int(sys.argv[2])):
    history.append({"epoch": epoch, "epochs": epoch + 1.0})
if os.fork():
    print("told", flush=True)
time.sleep(3600)
"""


@contextmanager
def run_writer(folder: Path, epochs: int) -> Iterator[subprocess.Popen[str]]:
    """Have a run begun that has written so many epochs; it and its child are killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(folder), str(epochs)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "told\n"
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
