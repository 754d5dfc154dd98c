# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``attach``: what it refuses, and that nobody else notices what it does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mds_samples import (
    NUM_SAMPLES,
    Bare,
    Jittered,
    assert_exactly_once,
    columns_of,
    draw,
    make_attached,
    make_dataset,
    make_loader,
    served,
    write_shards,
)
from streaming import Stream, StreamingDataLoader, StreamingDataset
from torch.utils.data import DataLoader

from composer_dataagent.streaming import attach, select

# ---------------------------------------------------------------------- refusals


def test_a_dataset_that_is_neither_streaming_nor_map_style() -> None:
    with pytest.raises(TypeError, match=r"list_iterator.*map-style.*MDSWriter.*StreamingDataset"):
        attach(iter([1]))


@pytest.mark.parametrize(
    ("stream", "arguments", "message"),
    [
        ({"repeat": 2}, {}, r"Stream 0 has 97 .* 194 .*remove proportion, repeat and choose"),
        ({"choose": 50}, {}, r"Stream 0 has 97 .* 50 .*remove proportion, repeat and choose"),
        ({"proportion": 1.0}, {"epoch_size": 40}, r"97 .* 40 .*epoch_size from the dataset"),
        ({}, {"shuffle": True, "shuffle_algo": "py1b"}, r"shuffle_algo='py1b'.*'py1br'"),
        ({}, {"batching_method": "device_per_stream"}, r"='device_per_stream'.*'stratified'"),
        ({}, {"replication": 1, "batch_size": None}, r"no batch_size: give it the same"),
        ({}, {"batch_size": None}, r"no batch_size: give it the same"),
    ],
    ids=str,
)
def test_datasets_set_up_in_another_way(
    shards: str, stream: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    streams = [Stream(local=shards, **stream)]
    dataset = make_dataset(None, streams=streams, **arguments)
    with pytest.raises(ValueError, match=message):
        attach(dataset)
    with pytest.raises(ValueError, match=message):
        select(dataset, [1, 2, 3])
    assert type(dataset) is StreamingDataset


def test_replicated_samples(shards: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(shards)
    dataset.replication = 2  # the constructor asks for two ranks, which are not needed to refuse
    with pytest.raises(ValueError, match=r"replication=2 .*remove it"):
        attach(dataset)


class Watched(StreamingDataset):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.recent_ids = []

    def watch(self) -> None:
        """What the user means by it."""


def test_a_dataset_with_attributes_of_the_same_names(shards: str) -> None:
    with pytest.raises(ValueError, match=r"Watched has .*\['recent_ids', 'watch'\].*rename them"):
        attach(make_dataset(shards, Watched))


class Halves(StreamingDataset):
    """One object stands for several samples, as cached ones do."""

    def __getitem__(self, at: Any) -> Any:
        return int(at) % 2


def reverse(samples: list[int]) -> list[int]:
    samples.reverse()
    return samples


def test_ids_of_a_batch_that_has_an_object_twice_and_is_sorted(shards: str) -> None:
    loader = make_loader(make_dataset(shards, Halves, shuffle=False), collate_fn=reverse)
    attach(loader.dataset, loader).serve(range(24))
    batches = [(batch, loader.sample_ids.tolist()) for batch in loader]  # type: ignore[attr-defined]
    assert all([i % 2 for i in ids] == batch for batch, ids in batches)
    assert sorted(i for _, ids in batches for i in ids) == list(range(24))


@pytest.mark.parametrize("epoch", [-1, True, 0.5])
def test_epochs_that_are_none(shards: str, epoch: Any) -> None:
    for loader in (make_loader(make_dataset(shards)), DataLoader([1, 2, 3])):  # type: ignore[arg-type]
        attachment = attach(loader.dataset, loader)
        with pytest.raises((ValueError, TypeError), match=r"epochs count from 0|float"):
            attachment.serve([1], epoch)


class Filtering(StreamingDataset):
    def __iter__(self) -> Iterator[Any]:
        return (sample for sample in super().__iter__() if sample["id"] % 2)


def test_a_dataset_that_iterates_in_its_own_way(shards: str) -> None:
    with pytest.raises(ValueError, match=r"Filtering overrides.*__iter__.*__getitem__"):
        attach(make_dataset(shards, Filtering))


class Doubling(DataLoader):
    def __iter__(self) -> Any:
        return (batch for batch in super().__iter__() for _ in range(2))


def test_loaders_that_cannot_carry_ids(shards: str) -> None:
    dataset = make_dataset(shards)
    with pytest.raises(TypeError, match=r"torch DataLoader.*list"):
        attach(dataset, [dataset])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"another dataset"):
        attach(dataset, make_loader(make_dataset(shards)))
    with pytest.raises(ValueError, match=r"batch_size=None.*let it make the batches"):
        attach(dataset, make_loader(dataset, batch_size=None))
    with pytest.raises(ValueError, match=r"Doubling overrides DataLoader\.__iter__.*collate_fn"):
        attach(dataset, make_loader(dataset, Doubling))
    assert type(dataset) is StreamingDataset


@pytest.mark.parametrize("sizes", [(4, 16), (16, 4)])
def test_a_loader_with_another_batch_size(shards: str, sizes: tuple[int, int]) -> None:
    of_loader, of_dataset = sizes
    dataset = make_dataset(shards, batch_size=of_dataset)
    message = rf"batch_size={of_loader}, but .* batch_size={of_dataset}: give both the same"
    with pytest.raises(ValueError, match=message):
        attach(dataset, make_loader(dataset, batch_size=of_loader, num_workers=2))
    assert type(dataset) is StreamingDataset


def test_workers_that_are_running_already(shards: str) -> None:
    loader = make_loader(make_dataset(shards), num_workers=1, persistent_workers=True)
    list(loader)
    with pytest.raises(RuntimeError, match=r"already running.*before the first iteration"):
        attach(loader.dataset, loader)


# ---------------------------------------------------------------------- nobody notices


class Batches(DataLoader):
    """A user's loader class."""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("dataset_cls", [StreamingDataset, Bare])
@pytest.mark.parametrize("loader_cls", [StreamingDataLoader, Batches])
def test_batches_are_those_of_the_loader_as_it_was(
    shards: str,
    workers: int,
    dataset_cls: type[StreamingDataset],
    loader_cls: type[DataLoader],
) -> None:
    arguments: dict[str, Any] = {"num_workers": workers, "drop_last": True}
    stock = make_loader(make_dataset(shards, dataset_cls), loader_cls, **arguments)
    attachment, attached = make_attached(shards, dataset_cls, loader_cls, **arguments)
    attachment.serve(np.ones(NUM_SAMPLES, bool))
    assert len(attached) == len(stock)
    expected, batches = list(stock), list(attached)
    assert len(batches) == len(expected)
    for batch, wanted in zip(batches, expected, strict=True):
        assert type(batch) is type(wanted)
        if isinstance(batch, torch.Tensor):
            assert torch.equal(batch, wanted) and batch.dtype == wanted.dtype
        else:
            assert list(batch) == list(wanted)
            assert all(torch.equal(batch[name], wanted[name]) for name in batch)
    assert isinstance(attached, loader_cls) and isinstance(attached.dataset, dataset_cls)
    assert type(attached).__name__ == loader_cls.__name__
    assert type(attached.dataset).__name__ == dataset_cls.__name__


def test_samples_of_the_dataset_and_of_other_loaders_over_it_carry_no_id(shards: str) -> None:
    attachment, _ = make_attached(shards, Bare)
    dataset = attachment.dataset
    attachment.serve_always(range(10))
    assert all(sample.ndim == 0 for sample in dataset)
    assert [batch.shape[0] for batch in make_loader(dataset, num_workers=2)] == [8, 2]
    assert dataset[96] == columns_of(96)["x"]


def test_a_second_loader(shards: str) -> None:
    attachment, first = make_attached(shards)
    with pytest.raises(ValueError, match=r"batch_size=24, but .* batch_size=8"):
        attach(attachment.dataset, make_loader(attachment.dataset, batch_size=24))
    second = make_loader(attachment.dataset, drop_last=True)
    attach(attachment.dataset, second)
    for loader in (first, second, first):
        attachment.serve(draw(48, 1))
        assert_exactly_once(served(loader), draw(48, 1))


# ---------------------------------------------------------------------- processes


def test_spawned_workers(shards: str) -> None:
    attachment, loader = make_attached(
        shards, Bare, num_workers=2, multiprocessing_context="spawn", persistent_workers=True
    )
    attachment.serve(range(20))
    assert len(list(attachment.dataset)) == 20  # its threads and locks cannot be pickled
    for epoch in range(2):
        attachment.serve(draw(45, epoch))
        assert_exactly_once(served(loader), draw(45, epoch))


@pytest.mark.parametrize("peek", [True, False])
def test_iterating_here_and_in_forked_workers_by_turns(tmp_path: Path, peek: bool) -> None:
    """File locks and threads of this process, running or not, are no use to a fork of it."""
    remote = write_shards(tmp_path / "remote")
    attachment, workers = make_attached(
        str(tmp_path / "local"), dataset={"remote": remote}, num_workers=2
    )
    here = make_loader(attachment.dataset)
    attach(attachment.dataset, here)
    for epoch in range(2):
        attachment.serve(draw(40, epoch))
        if peek:
            next(iter(here))
        else:
            assert_exactly_once(served(here), draw(40, epoch))
        attachment.serve(draw(90, epoch))
        assert_exactly_once(served(workers), draw(90, epoch))


def test_a_peek_before_attach(shards: str) -> None:
    loader = make_loader(make_dataset(shards), num_workers=2)
    next(iter(loader.dataset))  # type: ignore[call-overload]
    attachment = attach(loader.dataset, loader)
    assert attachment.serve(range(40)).epoch == 1
    assert_exactly_once(served(loader), range(40))


# ---------------------------------------------------------------------- raw samples


class Picky(Jittered):
    """Overrides the other way in as well."""

    def get_item(self, sample_id: int, retry: int = 7) -> Any:
        np.random.random()
        return {**super().get_item(sample_id, retry), "x": random.random()}


@pytest.mark.parametrize("dataset_cls", [StreamingDataset, Jittered, Picky])
def test_raw_sample_runs_no_user_code(tmp_path: Path, dataset_cls: type[StreamingDataset]) -> None:
    remote = write_shards(tmp_path / "remote")
    attachment, loader = make_attached(
        str(tmp_path / "local"), dataset_cls, dataset={"remote": remote}, num_workers=2
    )
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    for sample_id in (0, 60, NUM_SAMPLES - 1):  # absent shards are fetched
        assert attachment.raw_sample(sample_id) == columns_of(sample_id)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # type: ignore[index]
    for outside in (-1, NUM_SAMPLES):
        with pytest.raises(IndexError):
            attachment.raw_sample(outside)
    attachment.serve(range(40))
    batches = iter(loader)
    next(batches)
    assert attachment.raw_sample(70) == columns_of(70)
    assert sum(1 for _ in batches) == 4


def _longest_first(samples: list[Any]) -> Any:
    samples.sort(key=lambda sample: hash(str(sample["id"])), reverse=True)
    return [sample["id"] for sample in samples]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_collate_function_that_sorts_its_list(shards: str, workers: int) -> None:
    """As recurrent models' do, to pack sequences by length."""
    attachment, loader = make_attached(shards, collate_fn=_longest_first, num_workers=workers)
    attachment.serve(np.ones(NUM_SAMPLES, bool))
    batches = [(batch, loader.sample_ids.tolist()) for batch in loader]  # type: ignore[attr-defined]
    assert all(batch == ids for batch, ids in batches)
    assert sum(len(ids) for _, ids in batches) == NUM_SAMPLES
