# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What it costs to read each sequence's loss and entropy from a language model's logits.

    \b
    python tools/bench_signals.py                       logits [8, 256, 50257]: 5 GiB, minutes
    python tools/bench_signals.py --vocabulary 128256 --tokens 128
    python tools/bench_signals.py --rounds 3 --no-compiled
    python tools/bench_signals.py --images               segmentation: logits [4, 150, 128, 128]

Times are shares of the time of the model's own loss on the same logits: torch's cross entropy,
forward and backward. Every round measures all of them once, one after the other; shares are of
the same round, figures are medians over rounds. Naive is what one would write first: log_softmax,
and -(p * log p).sum().

Memory is what the process's peak rises by while signals are read, less what it held before, as a
share of the logits. Errors are those of single tokens, against double precision.

Ends with one JSON line.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from composer_dataagent.signals import TokenOptions, dense_signals, token_signals

PRECISIONS = {"f32": torch.float32, "bf16": torch.bfloat16}
Read = Callable[[Tensor, Tensor], object]


def naive(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and entropy with whole copies of the logits."""
    log_prob = logits[:, :-1].float().log_softmax(dim=2)
    loss = -log_prob.gather(2, labels[:, 1:].unsqueeze(2)).squeeze(2).mean(dim=1)
    return loss, -(log_prob.exp() * log_prob).sum(dim=2).mean(dim=1)


def own_loss(logits: Tensor, labels: Tensor) -> None:
    """Forward and backward of what the model is trained on."""
    leaf = logits.detach().requires_grad_()
    F.cross_entropy(leaf[:, :-1].flatten(0, 1), labels[:, 1:].flatten()).backward()


def seconds(read: Read, logits: Tensor, labels: Tensor) -> float:
    """How long it takes."""
    start = time.perf_counter()
    read(logits, labels)
    return time.perf_counter() - start


def extra_bytes(read: Read, logits: Tensor, labels: Tensor) -> int | None:
    """What the peak of resident memory rises by; None where the system does not tell."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None

    def held(name: str) -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith(name))
        return 1024 * int(line.split()[1])

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed, and would be taken again unseen
    reset.write_text("5")
    before = held("VmRSS:")
    read(logits, labels)
    return held("VmHWM:") - before


def error(read: Read, logits: Tensor, labels: Tensor) -> float:
    """Largest error of loss (nats) and entropy (in [0, 1], so times log V) of a single token."""
    rows = logits.flatten(0, 1)[:256].unsqueeze(1)
    targets = labels.flatten()[:256].unsqueeze(1)
    signals = read(rows, targets)
    log_prob = rows[:, 0].double().log_softmax(dim=1)
    loss = -log_prob.gather(1, targets).squeeze(1)
    entropy = -(log_prob.exp() * log_prob).sum(dim=1)
    found = signals.entropy.double() * math.log(rows.shape[2])  # type: ignore[attr-defined]
    return max(
        float((signals.loss - loss).abs().max()),  # type: ignore[attr-defined]
        float((found - entropy).abs().max()),
    )


def of_images(rounds: int) -> None:
    """What it costs to read images with a class for each pixel, all pixels or some."""
    random = torch.Generator().manual_seed(0)
    shape = (4, 150, 128, 128)
    logits = torch.empty(shape).normal_(0, 3, generator=random)
    labels = torch.randint(shape[1], (shape[0], *shape[2:]), generator=random)

    def own(logits: Tensor, labels: Tensor) -> None:
        F.cross_entropy(logits.detach().requires_grad_(), labels).backward()

    ways: dict[str, Read] = {
        "all_pixels": dense_signals,
        **{
            f"pixels_{most}": partial(dense_signals, options=TokenOptions(max_tokens=most))
            for most in (4096, 2048)
        },
    }
    for read in (own, *ways.values()):
        read(logits, labels)  # once for all that happens the first time
    shares: dict[str, list[float]] = {way: [] for way in ways}
    for _ in track(range(rounds), "images", console=Console(stderr=True)):
        whole = seconds(own, logits, labels)
        for way, read in ways.items():
            shares[way].append(seconds(read, logits, labels) / whole)
    table = Table("", "time", "(least, most)")
    for way, found in shares.items():
        table.add_row(way, f"{statistics.median(found):.3f}", f"{min(found):.3f}, {max(found):.3f}")
    Console().print(table)
    figures: dict[str, object] = {
        f"{way}_vs_ce": round(statistics.median(found), 4) for way, found in shares.items()
    }
    print(json.dumps(figures | {"shape": shape, "rounds": rounds}))


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--batch", type=click.IntRange(1), default=8, help="Sequences.")
@click.option("--tokens", type=click.IntRange(2), default=256, help="Of each sequence.")
@click.option("--vocabulary", type=click.IntRange(2), default=50257)
@click.option("--rounds", type=click.IntRange(1), default=5)
@click.option("--threads", type=click.IntRange(1), default=1, help="Of torch.")
@click.option("--compiled/--no-compiled", default=True, help="It needs a C++ compiler.")
@click.option("--images", is_flag=True, help="Of images with a class for each pixel.")
def main(
    batch: int,
    tokens: int,
    vocabulary: int,
    rounds: int,
    threads: int,
    compiled: bool,
    images: bool,
) -> None:
    """Measure, show, and print one line of JSON."""
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    if images:
        of_images(rounds)
        return
    random = torch.Generator().manual_seed(0)
    logits = torch.empty(batch, tokens, vocabulary).normal_(0, 3, generator=random)
    labels = torch.randint(vocabulary, (batch, tokens), generator=random)
    ways: dict[str, Callable[..., object]] = {"naive": naive, "eager": token_signals}
    if compiled:
        ways["compiled"] = partial(token_signals, options=TokenOptions(compile=True))
    shares: dict[str, list[float]] = {f"{w}_{p}": [] for p in PRECISIONS for w in ways}
    memory: dict[str, int | None] = {}
    errors: dict[str, float] = {}
    own: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for precision, dtype in PRECISIONS.items():
        of_precision = logits.to(dtype)
        reads: dict[str, Read] = {
            way: read if way == "naive" else partial(read, shift=True) for way, read in ways.items()
        }
        for way, read in reads.items():
            read(of_precision, labels)  # once for all that happens the first time
            memory[f"{way}_{precision}"] = extra_bytes(read, of_precision, labels)
            if way != "naive":
                errors[f"{way}_{precision}"] = error(ways[way], of_precision, labels)
        own_loss(of_precision, labels)
        for _ in track(range(rounds), precision, console=Console(stderr=True)):
            whole = seconds(own_loss, of_precision, labels)
            own[precision].append(whole)
            for way, read in reads.items():
                share = seconds(read, of_precision, labels) / whole
                shares[f"{way}_{precision}"].append(share)
        del of_precision
    table = Table("", "time", "(least, most)", "memory", "error")
    figures: dict[str, object] = {}
    extra: dict[str, float | None] = {}
    for name, of_rounds in shares.items():
        precision = name.split("_")[1]
        size = logits.numel() * PRECISIONS[precision].itemsize
        taken = memory[name]
        extra[name] = None if taken is None else round(taken / size, 4)
        figures[f"{name}_vs_ce"] = round(statistics.median(of_rounds), 4)
        table.add_row(
            name,
            f"{statistics.median(of_rounds):.3f}",
            f"{min(of_rounds):.3f}, {max(of_rounds):.3f}",
            "?" if taken is None else f"{100 * taken / size:.2f} %",
            f"{errors[name]:.1e}" if name in errors else "",
        )
    Console().print(table)
    for precision, of_rounds in own.items():
        print(f"own loss in {precision}: {1000 * statistics.median(of_rounds):.0f} ms")
    figures |= {
        "extra_memory_vs_logits": extra["eager_f32"],
        "extra_memory": extra,
        "max_abs_error": errors["eager_f32"],
        "errors": errors,
        "shape": [batch, tokens, vocabulary],
        "threads": threads,
        "rounds": rounds,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
