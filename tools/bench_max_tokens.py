# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What it costs in accuracy to read some tokens of a sequence only (signals: {max_tokens: n}).

    \b
    composer-dataagent train yamls/causal_lm.yaml
    python tools/bench_max_tokens.py runs/causal_lm

RUN is the folder of a finished run of a causal language model; its recipe says which data it was
trained on. Every training sequence's loss and entropy are read from all its tokens, and from a
half, a quarter and so on of them. Shown are the mean absolute error, Spearman's rank correlation,
and how many of the half with the largest values stay in it: what a selection would notice.

Ends with one JSON line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from composer_dataagent.recipes import load_recipe
from composer_dataagent.recipes.build import checkpoint_folder, join_ranks
from composer_dataagent.recipes.data import build_loader
from composer_dataagent.recipes.models import MODELS
from composer_dataagent.recipes.registry import split_name
from composer_dataagent.selection import rank01
from composer_dataagent.selection.gumbel import top_k
from composer_dataagent.signals import TokenOptions, token_signals

SHARES = (2, 4, 8, 16)  # a half, a quarter, ...


def compared(found: NDArray, true: NDArray) -> dict[str, float]:
    """How far some values ``[N]`` are from the true ones, and how far their order is."""
    half = len(true) // 2
    kept = np.intersect1d(top_k(found, half), top_k(true, half))
    return {
        "error": float(np.abs(found - true).mean()),
        "correlation": float(np.corrcoef(rank01(found), rank01(true))[0, 1]),
        "half_kept": len(kept) / half,
    }


@torch.no_grad()
def signals_of(run: Path) -> Iterator[tuple[int, NDArray]]:
    """Tokens that are read (first all of them), and loss and entropy of each sequence, [2, N]."""
    recipe = load_recipe(run / "recipe.json")
    join_ranks("cpu")
    model = MODELS.build("model", *split_name("model", recipe.model))
    saved = checkpoint_folder(recipe) / "latest-rank0.pt"
    model.load_state_dict(torch.load(saved, weights_only=False)["state"]["model"])
    model.eval()
    loader = build_loader("train_loader", recipe.train_loader, train=False, seed=recipe.seed)
    found: dict[int, list[torch.Tensor]] = {}
    for batch in track(loader, "sequences", console=Console(stderr=True)):
        logits, labels = model(batch).logits, batch["labels"]
        length = labels.shape[1]
        for most in (length, *(length // share for share in SHARES)):
            read = token_signals(
                logits, labels, shift=True, options=TokenOptions(max_tokens=max(1, most))
            )
            found.setdefault(most, []).append(torch.stack([read.loss, read.entropy]))
    yield from ((most, torch.cat(parts, dim=1).numpy()) for most, parts in found.items())


@click.command(help=__doc__)
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(run: Path) -> None:
    """Measure, show, and print one line of JSON."""
    torch.set_num_threads(1)
    (length, true), *others = signals_of(run)
    table = Table("tokens read", "", "mean abs. error", "rank correlation", "of the largest half")
    figures: dict[str, object] = {
        "sequences": true.shape[1],
        "length": length,
        "mean": dict(zip(("loss", "entropy"), true.mean(axis=1).tolist(), strict=True)),
        "deviation": dict(zip(("loss", "entropy"), true.std(axis=1).tolist(), strict=True)),
    }
    for most, found in others:
        for name, ours, theirs in zip(("loss", "entropy"), found, true, strict=True):
            of = compared(ours, theirs)
            table.add_row(
                f"{most} of {length}",
                name,
                f"{of['error']:.3f}",
                f"{of['correlation']:.3f}",
                f"{100 * of['half_kept']:.0f} %",
            )
            figures[f"{name}_{most}"] = of
    Console().print(table)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
