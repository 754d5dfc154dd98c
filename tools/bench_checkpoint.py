# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What DataAgent adds to a checkpoint: seconds to save and to load it, and bytes.

A real Trainer over map-style data of many samples trains one batch and writes Composer's own
checkpoint, with and without DataAgent; one in another process loads it and trains one more batch.

    \b
    python tools/bench_checkpoint.py
    python tools/bench_checkpoint.py --samples 100000000 --repeats 3

Figures are medians, less those without DataAgent: seconds to start (until a first batch is
trained), to save and to load (until one more batch is), and the most memory of both processes. Ends
with one JSON line.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
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


def run(num_samples: int, with_agent: bool, path: str, load: bool) -> dict[str, float]:
    """Train a batch, anew or from the checkpoint at ``path``, and save anew.

    Returns:
        dict[str, float]: Seconds until the batch is trained and to save, and the most memory in GiB
        beyond what it takes to train on few samples.
    """
    warnings.simplefilter("ignore")
    make_trainer(1_000, with_agent, "1ba").fit()  # what is done once is done
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    more = {"load_path": path} if load else {}
    trainer = make_trainer(num_samples, with_agent, "2ba" if load else "1ba", **more)
    trainer.fit()
    trained = time.perf_counter()
    if not load:
        trainer.save_checkpoint(path)
    saved = time.perf_counter()
    trainer.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"train": trained - start, "save": saved - trained, "gib": (peak - before) / 2**20}


def measure(num_samples: int, with_agent: bool) -> dict[str, float]:
    """A run that is saved, and one that goes on from there, each in a process of its own.

    (Composer holds the state of a trainer that was closed until its process ends.)
    """
    processes = multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "checkpoint.pt"))
        new, loaded = (
            processes.apply(run, (num_samples, with_agent, path, load)) for load in (False, True)
        )
        size = Path(path).stat().st_size
    processes.close()
    processes.join()
    return {
        "start_seconds": new["train"],
        "save_seconds": new["save"],
        "load_seconds": loaded["train"],
        "start_gib": new["gib"],
        "load_gib": loaded["gib"],
        "bytes_per_sample": size / num_samples,
    }


def compare(num_samples: int, repeats: int) -> dict[str, float]:
    """Medians with DataAgent less those without it."""
    pairs = [(measure(num_samples, True), measure(num_samples, False)) for _ in range(repeats)]
    return {"samples": num_samples} | {
        name: statistics.median(with_agent[name] for with_agent, _ in pairs)
        - statistics.median(without[name] for _, without in pairs)
        for name in pairs[0][0]
    }


@click.command(help=__doc__)
@click.option(
    "--samples",
    multiple=True,
    default=[1_281_167],
    show_default="ImageNet's",
    help="Size of the data set, also several times; 100000000 takes about 6 GiB of memory.",
)
@click.option("--repeats", default=5, show_default=True, help="Runs of each kind.")
def main(samples: tuple[int, ...], repeats: int) -> None:
    """Measure and print."""
    results = [compare(num_samples, repeats) for num_samples in track(samples)]
    names = list(results[0])
    table = Table(*(name.replace("_", " ") for name in names))
    for result in results:
        figures = [f"{result[name]:.2f}" for name in names[1:]]
        table.add_row(f"{result['samples']:,}", *figures)
    Console().print(table)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
