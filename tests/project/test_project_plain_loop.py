# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The plain PyTorch loop of the guide goes on after a kill, as it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from markdown_pages import blocks
from streaming import MDSWriter

# What a reader of the guide has: data, a model, a loss; and, if one wants, a kill in epoch 3.
BEFORE = """
import functools, itertools, os, signal, sys
import torch

remote, local, kill_after = None, sys.argv[1], int(sys.argv[2])
torch.manual_seed(0)
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.Adam(model.parameters())
steps = itertools.count(1)

def loss_of_each(outputs, targets):
    if next(steps) == kill_after:
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
"""


def test_the_plain_loop_goes_on_after_a_kill(tmp_path: Path) -> None:
    loop = blocks("docs/guides/subsets.md", "python")[-1]
    loop = loop.replace("step % 100 == 99", "step % 3 == 2")  # epochs are short here
    script = tmp_path / "loop.py"
    script.write_text(BEFORE + loop)
    columns = {"x": "ndarray:float32:4", "y": "int"}
    rng = np.random.default_rng(0)
    with MDSWriter(out=str(tmp_path / "data"), columns=columns, size_limit=2_000) as out:
        for _ in range(400):
            x = rng.normal(size=4).astype(np.float32)
            out.write({"x": x, "y": int(x[0] > 0)})

    def run(folder: str, kill_after: int) -> int:
        (tmp_path / folder).mkdir(exist_ok=True)
        arguments = [sys.executable, script, str(tmp_path / "data"), str(kill_after)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(
            arguments, cwd=tmp_path / folder, env=environment, check=False
        ).returncode

    assert run("whole", kill_after=0) == 0
    assert run("killed", kill_after=19) == -signal.SIGKILL  # of 7 batches in each of 5 epochs
    assert run("killed", kill_after=0) == 0
    whole, killed = (torch.load(tmp_path / name / "run.pt") for name in ("whole", "killed"))
    for name in ("weight", "bias"):
        assert torch.equal(whole["model"][name], killed["model"][name])
    assert torch.equal(whole["losses"], killed["losses"])
    assert whole["losses"].isfinite().float().mean() > 0.5
