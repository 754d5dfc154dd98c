# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The scripts in examples/ run, and select."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_detector_learns_from_half_of_the_images(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / "detection.py"), "--images", "64", "--epochs", "3"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    header, *rows = (line.split() for line in result.stdout.splitlines()[-4:])
    assert header == ["epoch", "images", "loss", "found"]
    assert [(int(epoch), int(images)) for epoch, images, *_ in rows] == [(0, 64), (1, 32), (2, 32)]
    assert float(rows[-1][2]) < float(rows[0][2])
    assert (tmp_path / "runs/detection/history.jsonl").exists()
