# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""One process that fails while an epoch is planned: nobody waits for it, then or later."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mds_samples import NUM_SAMPLES, make_dataset, served, write_shards
from streaming import StreamingDataLoader
from torch.utils.data import DataLoader, get_worker_info

from composer_dataagent.streaming import attach, select
from composer_dataagent.streaming.errors import SelectionCorruptError

HALF = np.arange(0, NUM_SAMPLES, 2)


@pytest.fixture
def shards(tmp_path: Path) -> str:
    return write_shards(tmp_path / "shards")


def ids_of(loader: DataLoader) -> list[int]:
    return sorted(i for batch in loader for i in batch["id"].tolist())


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("failing", [0, 1])
def test_a_rule_that_fails_once_in_one_worker(
    shards: str, tmp_path: Path, failing: int, persistent: bool
) -> None:
    once = tmp_path / "once"

    def rule(epoch: int) -> Any:
        info = get_worker_info()
        if epoch == 1 and info is not None:
            if info.id == failing and not once.exists():
                once.touch()
                raise OSError("the metadata server is gone")
            while not once.exists():  # else it is asked for what the other has published
                time.sleep(0.01)
        return HALF

    dataset = make_dataset(shards)
    select(dataset, per_epoch=rule)
    loader = DataLoader(
        dataset, batch_size=8, num_workers=2, persistent_workers=persistent, timeout=60
    )
    assert ids_of(loader) == HALF.tolist()
    with pytest.raises(OSError, match="metadata server"):
        ids_of(loader)
    for _ in range(2):
        assert ids_of(loader) == HALF.tolist()


def test_a_checkpoint_without_a_selection_is_not_finished_with_one(shards: str) -> None:
    loader = StreamingDataLoader(make_dataset(shards), batch_size=8)
    next(iter(loader))
    state = loader.state_dict()
    assert state is not None
    dataset = make_dataset(shards)
    select(dataset, HALF)
    loader = StreamingDataLoader(dataset, batch_size=8)
    attach(dataset, loader)
    loader.load_state_dict(state)
    with pytest.raises(SelectionCorruptError, match="without a selection, but one of 49 samples"):
        served(loader)


def test_a_first_selection_inside_an_epoch_does_not_rename_what_runs(shards: str) -> None:
    dataset = make_dataset(shards)
    loader = StreamingDataLoader(dataset, batch_size=8)
    batches = iter(loader)
    next(batches)
    select(dataset, HALF)
    next(batches)
    state = loader.state_dict()
    assert state is not None and state["selection"]["size"] == NUM_SAMPLES


def test_a_collate_function_that_raises_stop_iteration(shards: str) -> None:
    dataset = make_dataset(shards)

    def collate(samples: list[Any]) -> Any:
        raise StopIteration

    loader = DataLoader(dataset, batch_size=8, collate_fn=collate)
    select(dataset, HALF)
    attach(dataset, loader)
    with pytest.raises(RuntimeError, match="collate_fn raised StopIteration"):
        list(loader)


@pytest.mark.parametrize("number", [np.int64(3), torch.tensor(3)], ids=["numpy", "torch"])
@pytest.mark.parametrize("map_style", [False, True])
def test_epochs_of_other_integer_types(shards: str, number: Any, map_style: bool) -> None:
    dataset: Any = list(range(10)) if map_style else make_dataset(shards)
    attachment = attach(dataset, DataLoader(dataset, batch_size=8))
    attachment.serve(range(8), epoch=number)
    attachment.serve(range(8))
    with pytest.raises(TypeError):
        attachment.serve(range(8), epoch=1.5)  # type: ignore[arg-type]
