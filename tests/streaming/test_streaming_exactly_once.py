# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Served ids are the selected ids, each once, and the batch's contents belong to its ids."""

from __future__ import annotations

import tempfile
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mds_samples import (
    BATCH,
    NUM_SAMPLES,
    SHARDS,
    Bare,
    assert_exactly_once,
    draw,
    make_attached,
    make_dataset,
    served,
    write_shards,
    write_streams,
)
from streaming import StreamingDataLoader, StreamingDataset
from streaming_memory import released_shared_memory
from torch.utils.data import DataLoader

from composer_dataagent.streaming import select


# Each value of each setting occurs, and each kind of worker with each loader: a covering set.
@pytest.mark.parametrize(
    ("workers", "persistent", "loader", "dataset", "arguments"),
    [
        (0, False, DataLoader, Bare, {"shuffle_algo": "py1e"}),
        (0, False, StreamingDataLoader, StreamingDataset, {"shuffle": False}),
        (
            2,
            False,
            DataLoader,
            StreamingDataset,
            {"shuffle_algo": "py1s", "num_canonical_nodes": 2},
        ),
        (2, False, StreamingDataLoader, Bare, {"shuffle_algo": "py1br"}),
        (2, True, DataLoader, Bare, {"shuffle_algo": "naive"}),
        (2, True, StreamingDataLoader, StreamingDataset, {"num_canonical_nodes": 4}),
        (2, True, StreamingDataLoader, Bare, {"shuffle": False, "predownload": BATCH}),
    ],
)
def test_three_epochs_with_a_selection_each(
    shards: str,
    workers: int,
    persistent: bool,
    loader: type[DataLoader],
    dataset: type[StreamingDataset],
    arguments: dict[str, Any],
) -> None:
    attachment, batches_of = make_attached(
        shards,
        dataset,
        loader,
        dataset=arguments,
        num_workers=workers,
        persistent_workers=persistent,
    )
    for epoch, size in enumerate([41, 8, NUM_SAMPLES]):
        selected = draw(size, epoch)
        record = attachment.serve(selected)
        assert (record.epoch, record.size) == (epoch, size)
        assert len(batches_of.dataset) == size  # type: ignore[arg-type]
        batches = served(batches_of)
        assert len(batches) == len(batches_of) == -(-size // BATCH)
        assert_exactly_once(batches, selected)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batching_method", ["random", "stratified", "per_stream"])
def test_several_streams(tmp_path: Path, workers: int, batching_method: str) -> None:
    streams = write_streams(tmp_path, [(5, 9), (31,), (2, 2, 3)])
    dataset = {"streams": streams, "batching_method": batching_method}
    attachment, loader = make_attached(None, dataset=dataset, num_workers=workers)
    for selected in (range(14, 45), [0, 13, 14, 44, 45, 51], range(52)):
        attachment.serve(list(selected))
        assert_exactly_once(served(loader), selected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_smaller_than_the_data(tmp_path: Path, workers: int) -> None:
    remote = write_shards(tmp_path / "remote", [40] * 12)
    attachment, loader = make_attached(
        str(tmp_path / "local"),
        dataset={"remote": remote, "cache_limit": 12_000, "predownload": BATCH},
        num_workers=workers,
    )
    for epoch in range(2):
        selected = draw(200, epoch, 480)
        attachment.serve(selected)
        assert_exactly_once(served(loader), selected)
        assert len(list((tmp_path / "local").glob("*.mds"))) < 12, "nothing was evicted"


def test_a_shuffle_goes_with_the_epoch_and_order_without_shuffle_is_that_of_ids(
    shards: str,
) -> None:
    attachment, loader = make_attached(shards)
    orders = []
    for _ in range(2):
        attachment.serve(range(50))
        orders.append(list(chain(*served(loader))))
    assert orders[0] != orders[1]
    attachment, loader = make_attached(shards, dataset={"shuffle": False})
    attachment.serve([70, 3, 40])
    assert served(loader) == [[3, 40, 70]]


@pytest.mark.parametrize("workers", [0, 2])
def test_selections_of_later_epochs(shards: str, workers: int) -> None:
    attachment, loader = make_attached(shards, num_workers=workers)
    sizes = [41, 8, 70]
    for epoch, size in reversed(list(enumerate(sizes))):
        attachment.serve(range(size), epoch)
    for size in sizes:
        assert len(loader) == -(-size // BATCH)
        assert_exactly_once(served(loader), range(size))
    assert len(loader) == -(-70 // BATCH)  # the last one's, until the next is selected


@given(data=st.data())
@settings(max_examples=25)
def test_any_shards_any_subset(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=6), "shard sizes")
    num_samples = sum(sizes)
    nodes = data.draw(st.integers(1, 64), "canonical nodes")
    algo = data.draw(st.sampled_from(["py1e", "py1s", "py2s", "py1br", "naive", None]), "shuffle")
    batch_size = data.draw(st.integers(1, 9), "batch size")
    with tempfile.TemporaryDirectory() as folder, released_shared_memory():
        attachment, loader = make_attached(
            write_shards(folder, sizes),
            data.draw(st.sampled_from([StreamingDataset, Bare])),
            dataset={
                "shuffle": algo is not None,
                "shuffle_algo": algo or "py1e",
                "num_canonical_nodes": nodes,
                "batch_size": batch_size,
            },
            batch_size=batch_size,
        )
        for _ in range(2):
            mask = np.array(
                data.draw(
                    st.lists(st.booleans(), min_size=num_samples, max_size=num_samples).filter(any),
                    "selected",
                )
            )
            attachment.serve(mask)
            batches = served(loader)
            assert_exactly_once(batches, np.flatnonzero(mask))
            assert all(len(batch) == batch_size for batch in batches[:-1])


def test_without_a_loader_the_dataset_itself_serves_the_selection(shards: str) -> None:
    dataset = make_dataset(shards)
    select(dataset, range(20, 45))
    assert_exactly_once([[sample["id"] for sample in dataset]], range(20, 45))
    assert len(dataset) == 25 and dataset.num_samples == sum(SHARDS)
