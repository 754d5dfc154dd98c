# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A short run of ``tools/soak_streaming.py``, which kills two ranks with two workers at random."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "tools" / "soak_streaming.py"


@pytest.mark.parametrize("fetch", ["shards", "samples"])
def test_nothing_is_lost_or_doubled_over_kills(fetch: str) -> None:
    run = subprocess.run(
        [sys.executable, SOAK, "--kills", "4", "--seed", "3", "--fetch", fetch],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    assert figures["epochs"] > 1 and figures["steps"] > 100, "the kills came too early"
    assert (figures["lost"], figures["doubled"], figures["kills"]) == (0, 0, 4)
