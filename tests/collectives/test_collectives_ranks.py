# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Collectives over real gloo ranks, and as identities on one process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from composer_dataagent import collectives


def rows_of(rank: int) -> dict[str, np.ndarray]:
    count = [3, 0, 5][rank]
    return {
        # beyond what float32 or float64 can hold: ids must not travel as floats
        "ids": (1 << 60) + np.arange(count, dtype=np.int64) + 100 * rank,
        "loss": np.arange(count, dtype=np.float16) / 3 + rank,
        "flag": np.arange(count) % 2 == 0,
    }


def _work(rank: int, ranks: int, folder: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks
    )
    gathered = collectives.all_gather_rows(rows_of(rank))
    torch.save(
        {
            "rows": gathered,
            "none": collectives.all_gather_rows({"ids": np.empty(0, np.int64)}),
            "sum": collectives.all_reduce_sum(torch.tensor([rank + 1.0])),
            "mean": collectives.all_reduce_mean(torch.tensor([rank + 1.0])),
            "texts": collectives.all_gather_strings(f"from {rank}"),
            "rank": collectives.rank(),
        },
        f"{folder}/{rank}.pt",
    )
    collectives.barrier()
    dist.destroy_process_group()


def test_three_ranks_agree() -> None:
    ranks = 3
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_work, args=(ranks, folder), nprocs=ranks)  # type: ignore[attr-defined]
        results: list[Any] = [
            torch.load(Path(folder, f"{rank}.pt"), weights_only=False) for rank in range(ranks)
        ]
    for rank, result in enumerate(results):
        assert result["rank"] == rank
        assert result["sum"].item() == 6 and result["mean"].item() == 2
        assert result["texts"] == ["from 0", "from 1", "from 2"]
        assert result["none"]["ids"].shape == (0,) and result["none"]["ids"].dtype == np.int64
        for name in ("ids", "loss", "flag"):
            expected = np.concatenate([rows_of(r)[name] for r in range(ranks)])
            assert result["rows"][name].dtype == expected.dtype
            np.testing.assert_array_equal(result["rows"][name], expected)


@pytest.mark.parametrize("reduce", [collectives.all_reduce_sum, collectives.all_reduce_mean])
def test_one_process_is_the_identity(reduce: Any) -> None:
    tensor = torch.tensor([1.0, 2.0])
    assert torch.equal(reduce(tensor.clone()), tensor)
    rows = rows_of(0)
    assert collectives.all_gather_rows(rows) == rows
    assert collectives.all_gather_strings("x") == ["x"]
    assert collectives.world_size() == 1 and collectives.rank() == 0
