# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Collectives over real gloo ranks, and as identities on one process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from forked_ranks import join, start

from composer_dataagent import collectives
from composer_dataagent.collectives import Ranks, Traffic


def rows_of(rank: int) -> dict[str, np.ndarray]:
    count = [3, 0, 5][rank]
    return {
        # beyond what float32 or float64 can hold: ids must not travel as floats
        "ids": (1 << 60) + np.arange(count, dtype=np.int64) + 100 * rank,
        "loss": np.arange(count, dtype=np.float16) / 3 + rank,
        "flag": np.arange(count) % 2 == 0,
    }


def _work(rank: int, ranks: int, folder: str) -> None:
    join(rank, ranks, Path(folder, "rendezvous"))
    group = Ranks()
    sent = []

    def counted(result: Any) -> Any:
        sent.append(tuple(group.traffic))
        group.traffic = Traffic()
        return result

    try:
        group.check_same("digest", lambda: "different" if rank == 1 else "identical")
        error = ""
    except RuntimeError as caught:
        error = str(caught)
    group.check_same("digest", lambda: "same")
    counted(None)
    torch.save(
        {
            "rows": counted(group.all_gather_rows(rows_of(rank))),
            "none": counted(group.all_gather_rows({"ids": np.empty(0, np.int64)})),
            "sum": counted(group.all_reduce_sum(torch.tensor([rank + 1.0]))),
            "objects": group.all_gather_objects({"from": rank}),
            "rank": collectives.rank(),
            "error": error,
            "sent": sent,
        },
        f"{folder}/{rank}.pt",
    )
    collectives.barrier()
    dist.destroy_process_group()


def test_three_ranks_agree() -> None:
    ranks = 3
    with tempfile.TemporaryDirectory() as folder:
        start(_work, ranks, folder)
        results: list[Any] = [
            torch.load(Path(folder, f"{rank}.pt"), weights_only=False) for rank in range(ranks)
        ]
    for rank, result in enumerate(results):
        assert result["rank"] == rank
        assert result["sum"].item() == 6
        assert result["objects"] == [{"from": 0}, {"from": 1}, {"from": 2}]
        assert "Ranks [1] have another digest than rank 0" in result["error"]
        none = result["none"].columns["ids"]
        assert none.shape == (0,) and none.dtype == np.int64
        assert result["rows"].rank.tolist() == [0] * 3 + [2] * 5
        # Two checks; rows: their number, and as many as the longest rank has, of 11 bytes; none;
        # one float.
        assert result["sent"] == [(2, 9 + 4), (2, 8 + 5 * 11), (2, 8), (1, 4)]
        for name in ("ids", "loss", "flag"):
            expected = np.concatenate([rows_of(r)[name] for r in range(ranks)])
            assert result["rows"].columns[name].dtype == expected.dtype
            np.testing.assert_array_equal(result["rows"].columns[name], expected)


def test_one_process_is_the_identity_and_sends_nothing() -> None:
    group = Ranks()
    tensor = torch.tensor([1.0, 2.0])
    assert group.all_reduce_sum(tensor) is tensor
    rows = group.all_gather_rows(rows_of(0))
    for name, column in rows_of(0).items():
        np.testing.assert_array_equal(rows.columns[name], column)
    assert rows.rank.tolist() == [0, 0, 0]
    assert group.all_gather_objects("x") == ["x"]
    group.check_same("digest", lambda: "any")
    assert group.traffic == (0, 0)
    assert collectives.world_size() == 1 and collectives.rank() == 0
