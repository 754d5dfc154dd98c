# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Several ranks that train beside MixUp or CutMix, and look themselves at what was scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forked_ranks import join, start


def _rank(rank: int, ranks: int, folder: str, mixer: str, parallel: str | None) -> None:
    import composer.algorithms
    import torch.distributed as dist
    from companion_checks import check_ledger, check_mixed_batches, watched_mixing
    from companion_runs import NUM_SAMPLES, cnn, image_loader, run
    from parallel_runs import parallelism
    from torch.utils.data import DistributedSampler

    join(rank, ranks, Path(folder, "rendezvous"))
    model, arguments = parallelism(parallel, cnn())
    # No sample on two ranks, of which the first one's visit would count.
    sampler = DistributedSampler(range(NUM_SAMPLES), drop_last=True)  # type: ignore[arg-type]
    with watched_mixing() as mixed:
        outcome = run(
            [getattr(composer.algorithms, mixer)(alpha=1.0)],
            model=model,
            loader=image_loader(sampler=sampler),
            head="module.head" if parallel else "module.module.head",
            device_train_microbatch_size=7,
            **arguments,
        )
    mine = check_mixed_batches(outcome, mixed)
    of_ranks: list[Any] = [None] * ranks
    dist.all_gather_object(of_ranks, mine)
    expected: dict[int, dict[str, float]] = {}
    for batches in zip(*of_ranks, strict=True):
        for batch in batches:
            expected |= batch
    assert len(expected) == NUM_SAMPLES  # what the first epoch dropped came first in the second
    check_ledger(outcome, expected)


def run_ranks(folder: Path, mixer: str, parallel: str | None, ranks: int = 2) -> None:
    """Train for two epochs; what a rank finds wrong is raised.

    Args:
        folder: Where the ranks meet.
        mixer: ``MixUp`` or ``CutMix``.
        parallel: See ``parallel_runs``.
        ranks: How many.
    """
    start(_rank, ranks, str(folder), mixer, parallel)
