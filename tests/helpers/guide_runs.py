# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a reader of a page has before its Python: small data, a model, a loader."""

from __future__ import annotations

# As long as runs are in the pages.
LONG = {'max_duration="90ep"': 'max_duration="2ep"', "upcoming_epoch() < 5": "upcoming_epoch() < 3"}

_DATA = """
import numpy as np
import torch
from streaming import MDSWriter, StreamingDataset

rng = np.random.default_rng(0)
torch.manual_seed(0)
for folder in ("data/first", "data/second"):
    columns = {"x": "ndarray:float32:4", "y": "int"}
    with MDSWriter(out=folder, columns=columns, size_limit=2_000) as out:
        for _ in range(200):
            x = rng.normal(size=4).astype(np.float32)
            out.write({"x": x, "y": int(x[0] > 0)})
"""

_COMPOSER = """
from composer.models import ComposerClassifier
from torch.utils.data import DataLoader

class Pairs(StreamingDataset):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return torch.as_tensor(sample["x"]), sample["y"]

model = ComposerClassifier(torch.nn.Linear(4, 2), num_classes=2)
loader = DataLoader(Pairs(local="data/first", batch_size=20), batch_size=20)
"""

_PLAIN = """
dataset = StreamingDataset(local="data/first", batch_size=20)
sample_ids, difficulty = [3, 5, 7], np.linspace(0, 1, 200)

remote, local = None, "data/second"
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.Adam(model.parameters())

def loss_of_each(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
"""

BEFORE = {
    "README.md": _DATA + _COMPOSER,
    "docs/guides/subsets.md": _DATA + _PLAIN,
    "docs/guides/trainer.md": _DATA + _COMPOSER,
}


def script_of(page: str, python: list[str]) -> str:
    """All Python of a page, after what its reader has."""
    text = "\n".join(python)
    for long, short in LONG.items():
        text = text.replace(long, short)
    return BEFORE.get(page, "") + text
