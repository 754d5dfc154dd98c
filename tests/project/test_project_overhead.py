# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``tools/bench_overhead.py`` as a command, and that what it counts by is not blind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pretended_gpu import DEVICE, OnDevice, PretendedGPU, Reads
from torch import Tensor

BENCH = Path(__file__).parents[2] / "tools" / "bench_overhead.py"


def test_the_tool_measures_everything_and_no_step_waits_for_a_device() -> None:
    smallest = ["--updates", "1", "--update-interval", "1", "--samples", "1000", "--repeats", "1"]
    run = subprocess.run(
        [sys.executable, BENCH, *smallest], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    for model in ("resnet18_64", "resnet50_112"):
        parts = figures[f"{model}_parts"]
        assert all(share > 0 for share in parts.values())
        # With one window, the parts are the whole.
        assert sum(parts.values()) == pytest.approx(figures[f"{model}_overhead"])
    assert figures["host_syncs_per_step"] == 0
    assert figures["host_syncs_per_update"] > 0, "the agent's records have to reach the host"
    assert figures["select_ns_per_sample"] > 0 and figures["select_peak_bytes_per_sample"] > 0


@pytest.mark.parametrize(
    ("operation", "waits"),
    [
        (lambda x: x.sum().item(), 1),
        (lambda x: bool((x > 1).any()), 1),
        (lambda x: x.tolist(), 1),
        (lambda x: x[x > 1], 1),
        (lambda x: x.masked_select(x > 1), 1),
        (lambda x: x.cpu().numpy(), 1),
        (lambda x: x[torch.tensor([1, 0])], 1),
        (lambda x: torch.ones(3).to(DEVICE), 1),
        (lambda x: torch.ones(3).to(DEVICE, non_blocking=True), 0),
        (lambda x: torch.where(x > 1, x, 0.0).sort().values[:2].to(x.device), 0),
        (lambda x: torch.zeros(3, device=DEVICE).add_(x), 0),
    ],
)
def test_a_pretended_gpu_counts_waits(operation: Callable[[Tensor], Any], waits: int) -> None:
    gpu = PretendedGPU()
    x = OnDevice(torch.tensor([1.0, 2.0, 3.0]))
    with gpu:
        operation(x)
    assert sum(gpu.waits.values()) == waits


def test_a_pretended_gpu_computes_and_refuses_to_mix() -> None:
    x = OnDevice(torch.tensor([1.0, 2.0, 3.0]))
    gpu = PretendedGPU()
    with gpu:
        assert (x * 2 + torch.ones(3, device=DEVICE)).cpu().tolist() == [3.0, 5.0, 7.0]
        with pytest.raises(RuntimeError, match="on the device and on the host"):
            torch.add(x, torch.ones(3))
    with Reads(gpu.waits):
        gpu.waits.clear()
        torch.ones(3).sum().item()
    assert sum(gpu.waits.values()) == 1
