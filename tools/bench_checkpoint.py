# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What DataAgent adds to a checkpoint: seconds to save and to load it, and bytes.

A real Trainer over map-style data of many samples trains one batch and writes Composer's own
checkpoint, with and without DataAgent; a second one loads it and trains one more batch.

    \b
    python tools/bench_checkpoint.py
    python tools/bench_checkpoint.py --samples 100000000 --repeats 1

Figures are medians; ends with one JSON line.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import click
import torch
from composer import Trainer
from composer.models import ComposerClassifier
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from composer_dataagent import DataAgent

CLASSES = 10


class Many(Dataset):
    """As many samples as wanted, in no memory."""

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        return torch.full((8,), at / self.num_samples), at % CLASSES


def make_trainer(
    num_samples: int, with_agent: bool, max_duration: str, **arguments: Any
) -> Trainer:
    """A trainer that is quick but for what it has to keep of its samples."""
    model = ComposerClassifier(nn.Sequential(nn.Linear(8, CLASSES)), num_classes=CLASSES)
    return Trainer(
        model=model,
        optimizers=torch.optim.Adam(model.parameters()),
        train_dataloader=DataLoader(Many(num_samples), batch_size=64),
        algorithms=[DataAgent(ratio=0.5)] if with_agent else [],
        max_duration=max_duration,
        device="cpu",
        progress_bar=False,
        seed=1,
        **arguments,
    )


def measure(num_samples: int, with_agent: bool, folder: Path) -> dict[str, float]:
    """Seconds to save, seconds that loading adds until a first batch is trained, and bytes."""
    start = time.perf_counter()
    trainer = make_trainer(num_samples, with_agent, "1ba")
    trainer.fit()
    fresh = time.perf_counter() - start
    start = time.perf_counter()
    path = trainer.save_checkpoint(str(folder / "checkpoint.pt"))
    saved = time.perf_counter() - start
    trainer.close()
    assert path is not None
    start = time.perf_counter()
    trainer = make_trainer(num_samples, with_agent, "2ba", load_path=path)
    trainer.fit()
    loaded = time.perf_counter() - start
    trainer.close()
    return {"save": saved, "load": loaded - fresh, "bytes": Path(path).stat().st_size}


def compare(num_samples: int, repeats: int) -> dict[str, Any]:
    """Medians with and without DataAgent, side by side."""
    runs: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for _ in range(repeats):
        for with_agent in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                runs[with_agent].append(measure(num_samples, with_agent, Path(folder)))
    extra = {
        name: statistics.median(run[name] for run in runs[True])
        - statistics.median(run[name] for run in runs[False])
        for name in ("save", "load", "bytes")
    }
    return {
        "samples": num_samples,
        "save_extra_seconds": extra["save"],
        "load_extra_seconds": extra["load"],
        "bytes_per_sample": extra["bytes"] / num_samples,
    }


@click.command(help=__doc__)
@click.option(
    "--samples",
    multiple=True,
    default=[1_281_167],
    show_default="ImageNet's",
    help="Size of the data set, also several times; 100000000 takes about 12 GiB of memory.",
)
@click.option("--repeats", default=5, show_default=True, help="Runs of each kind.")
def main(samples: tuple[int, ...], repeats: int) -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    results = [compare(num_samples, repeats) for num_samples in track(samples)]
    table = Table("samples", "save, extra s", "load, extra s", "bytes per sample")
    for result in results:
        table.add_row(
            f"{result['samples']:,}",
            f"{result['save_extra_seconds']:.3f}",
            f"{result['load_extra_seconds']:.3f}",
            f"{result['bytes_per_sample']:.2f}",
        )
    Console().print(table)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
