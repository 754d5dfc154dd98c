# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``select`` and ``clear``: a subset of any StreamingDataset, without an agent."""

from __future__ import annotations

import copy
import gc
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked_ranks import forkserver
from mds_samples import (
    BATCH,
    NUM_SAMPLES,
    assert_exactly_once,
    draw,
    make_attached,
    make_dataset,
    make_loader,
    served,
)

from composer_dataagent.streaming import attach, clear, select

ODD = range(1, NUM_SAMPLES, 2)


def ids_of(loader: Any) -> list[list[int]]:
    return [batch["id"].tolist() for batch in loader]


@pytest.mark.parametrize(
    "ids",
    [
        list(ODD),
        ODD,
        np.array(ODD, np.int32)[::-1],
        np.array(ODD, np.uint16),
        torch.tensor(ODD),
        np.arange(NUM_SAMPLES) % 2 == 1,
        torch.arange(NUM_SAMPLES) % 2 == 1,
        [bool(i % 2) for i in range(NUM_SAMPLES)],
    ],
    ids=["list", "range", "int32", "uint16", "tensor", "mask", "mask tensor", "mask list"],
)
def test_ids_and_masks_of_all_kinds(shards: str, ids: Any) -> None:
    loader = make_loader(make_dataset(shards))
    attachment = select(loader.dataset, ids)  # type: ignore[arg-type]
    assert attachment.has_standing_selection()
    for _ in range(2):
        assert_exactly_once(ids_of(loader), ODD)


@pytest.mark.parametrize(
    ("workers", "persistent"), [(0, False), (2, False), (2, True)], ids=["0", "2", "persistent"]
)
def test_replaced_and_cleared_while_workers_live(
    shards: str, workers: int, persistent: bool
) -> None:
    loader = make_loader(make_dataset(shards), num_workers=workers, persistent_workers=persistent)
    dataset: Any = loader.dataset
    for selected in (draw(50, 1), draw(50, 2), draw(9, 3)):
        select(dataset, selected)
        assert (len(dataset), len(loader)) == (len(selected), -(-len(selected) // BATCH))
        assert_exactly_once(ids_of(loader), selected)
    clear(dataset)
    assert (len(dataset), len(loader)) == (NUM_SAMPLES, -(-NUM_SAMPLES // BATCH))
    assert_exactly_once(ids_of(loader), range(NUM_SAMPLES))


def test_clear_and_select_replace_what_was_meant_for_one_epoch(shards: str) -> None:
    attachment, loader = make_attached(shards)
    attachment.serve(range(30))
    clear(attachment.dataset)
    assert_exactly_once(served(loader), range(NUM_SAMPLES))
    attachment.serve(range(30), epoch=3)
    select(attachment.dataset, range(40))
    for _ in range(3):
        assert_exactly_once(served(loader), range(40))


def test_one_epochs_selection_goes_before_the_standing_one(shards: str) -> None:
    attachment, loader = make_attached(shards)
    attachment.serve_always(range(20))
    attachment.serve([5, 6], epoch=1)
    for selected in (range(20), [5, 6], range(20)):
        assert_exactly_once(served(loader), selected)


def test_a_dataset_that_was_never_selected_from_is_left_alone(shards: str) -> None:
    dataset = make_dataset(shards)
    before = type(dataset)
    clear(dataset)
    assert type(dataset) is before


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([], ValueError, "no sample is selected"),
        (np.zeros(NUM_SAMPLES, bool), ValueError, "no sample is selected"),
        ([3, 4, 3], ValueError, r"sample id 3 is given 2 times"),
        ([0, NUM_SAMPLES], ValueError, rf"{NUM_SAMPLES} is outside.*0 to {NUM_SAMPLES - 1}"),
        ([-1, 0], ValueError, r"-1 is outside"),
        ([0.0, 1.0], TypeError, r"integers.*float64"),
        (torch.tensor([1.5]), TypeError, r"integers.*float32"),
        ([[1, 2]], TypeError, r"one-dimensional.*\(1, 2\)"),
        (["1"], TypeError, r"integers"),
        (np.ones(NUM_SAMPLES - 1, bool), ValueError, rf"mask has {NUM_SAMPLES - 1} entries"),
    ],
)
def test_ids_that_cannot_be_served(
    shards: str, ids: Any, error: type[Exception], message: str
) -> None:
    dataset = make_dataset(shards)
    with pytest.raises(error, match=message):
        select(dataset, ids)


@pytest.mark.parametrize("algo", ["py1s", "py2s"])
@pytest.mark.parametrize("size", [1, 63, 64, 65])
def test_any_number_of_samples_for_64_canonical_nodes(shards: str, algo: str, size: int) -> None:
    """They are the default of these shuffles; streaming repeats samples to fill each up."""
    loader = make_loader(make_dataset(shards, shuffle_algo=algo))
    select(loader.dataset, range(size))  # type: ignore[arg-type]
    batches = list(ids_of(loader))
    assert len(batches) == len(loader)
    assert_exactly_once(batches, range(size))


def test_persistent_workers_that_began_without_a_selection(shards: str) -> None:
    loader = make_loader(make_dataset(shards), num_workers=2, persistent_workers=True)
    dataset: Any = loader.dataset
    assert_exactly_once(ids_of(loader), range(NUM_SAMPLES))
    with pytest.raises(RuntimeError, match=r"already running.*before the first iteration"):
        select(dataset, ODD)
    assert_exactly_once(ids_of(loader), range(NUM_SAMPLES))
    del loader
    select(dataset, ODD)
    assert_exactly_once(ids_of(make_loader(dataset, num_workers=2)), ODD)


def test_copies_serve_what_the_dataset_serves(shards: str) -> None:
    """They share its epochs, as copies of a StreamingDataset do, and outlive it."""
    dataset = make_dataset(shards)
    select(dataset, ODD)
    copies = [copy.copy(dataset), copy.deepcopy(dataset)]
    del dataset
    gc.collect()
    select(copies[1], range(40))
    for of_two in copies:
        assert_exactly_once(ids_of(make_loader(of_two, num_workers=2)), range(40))


def test_a_copy_that_goes_takes_no_locks_along(shards: str) -> None:
    dataset: Any = make_dataset(shards)
    select(dataset, ODD)
    for make in (copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))):
        assert_exactly_once(ids_of(make_loader(make(dataset))), ODD)
        gc.collect()
        with forkserver().Pool(1) as pool:
            pool.apply(dataset.presence.check)  # raises if it finds that this rank has ended


def folder_of(dataset: Any) -> Path:
    return Path(dataset.selection_store.folder)


def test_the_folder_of_selections_goes_with_the_dataset(shards: str) -> None:
    """Workers that were forked go away too, and must leave it alone."""
    loader = make_loader(make_dataset(shards), num_workers=2)
    select(loader.dataset, ODD)  # type: ignore[arg-type]
    folder = folder_of(loader.dataset)
    assert folder.is_dir()
    for _ in range(2):
        assert_exactly_once(ids_of(loader), ODD)
        assert folder.is_dir()
    del loader
    gc.collect()
    assert not folder.exists()


def test_selections_of_past_epochs_are_deleted(shards: str) -> None:
    attachment, loader = make_attached(shards)
    for epoch in range(4):
        attachment.serve(draw(30, epoch))
        served(loader)
        select(attachment.dataset, draw(30, -epoch + 10))
        served(loader)
        assert len(list(folder_of(attachment.dataset).iterdir())) <= 3


def test_attach_again_gives_the_same_dataset(shards: str) -> None:
    attachment, loader = make_attached(shards)
    attachment.serve(range(10))
    again = attach(attachment.dataset, loader)
    assert again.dataset is attachment.dataset
    assert len(again.dataset) == 10
    assert_exactly_once(served(loader), range(10))


def test_clear_of_something_else() -> None:
    with pytest.raises(TypeError, match=r"dataset that select\(\) was called with, not a NoneType"):
        clear(None)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- functions


def growing(epoch: int) -> range:
    """Another selection in each epoch, as a curriculum has."""
    return range(10 * (epoch + 1))


WORKERS = pytest.mark.parametrize(
    "workers",
    [
        {},
        {"num_workers": 2},
        {"num_workers": 2, "persistent_workers": True},
        {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": "spawn"},
    ],
    ids=["0", "2", "persistent", "spawned"],
)


def test_a_predicate_over_ids(shards: str) -> None:
    loader = make_loader(make_dataset(shards))
    select(loader.dataset, lambda ids: ids % 2 == 1)  # type: ignore[arg-type]
    assert_exactly_once(ids_of(loader), ODD)


@pytest.mark.parametrize("predicate", [lambda ids: True, lambda ids: ids % 2, lambda ids: ids[:3]])
def test_a_predicate_that_is_none(shards: str, predicate: Any) -> None:
    with pytest.raises(TypeError, match=rf"boolean mask \[{NUM_SAMPLES}\].*np\.vectorize"):
        select(make_dataset(shards), predicate)


@WORKERS
def test_a_function_of_the_epoch(shards: str, workers: dict[str, Any]) -> None:
    loader = make_loader(make_dataset(shards), **workers)
    dataset: Any = loader.dataset
    assert select(dataset, per_epoch=growing).has_standing_selection()
    for epoch in range(3):
        assert len(dataset) == len(growing(epoch))
        assert_exactly_once(ids_of(loader), growing(epoch))


@pytest.mark.parametrize("workers", [0, 2])
def test_functions_and_ids_replace_each_other(shards: str, workers: int) -> None:
    loader = make_loader(make_dataset(shards), num_workers=workers)
    dataset: Any = loader.dataset
    changes: list[tuple[dict[str, Any], range]] = [
        ({"per_epoch": growing}, growing(0)),
        ({"ids": ODD}, ODD),
        ({"per_epoch": lambda epoch: range(epoch, epoch + 30)}, range(2, 32)),
        ({"per_epoch": growing}, growing(3)),
    ]
    for change, expected in changes:
        len(dataset)  # which asks what the upcoming epoch serves, as it is now
        select(dataset, **change)
        assert_exactly_once(ids_of(loader), expected)
    clear(dataset)
    assert_exactly_once(ids_of(loader), range(NUM_SAMPLES))


def test_workers_that_started_before_a_function_was_given_say_so(shards: str) -> None:
    loader = make_loader(make_dataset(shards), num_workers=1, persistent_workers=True)
    dataset: Any = loader.dataset
    select(dataset, ODD)
    ids_of(loader)
    select(dataset, per_epoch=growing)
    with pytest.raises(RuntimeError, match=r"persistent workers were started before select"):
        ids_of(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_function_of_the_epoch_goes_on_after_a_restart(shards: str, workers: int) -> None:
    def make() -> Any:
        attachment, loader = make_attached(shards, num_workers=workers)
        select(attachment.dataset, per_epoch=growing)
        return loader

    loader = make()
    expected = [served(loader) for _ in range(3)]
    loader = make()
    served(loader)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    loader = make()
    loader.load_state_dict(state)
    assert served(loader) == expected[1][1:]
    assert served(loader) == expected[2]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, TypeError, "either ids or per_epoch"),
        ({"ids": [1], "per_epoch": growing}, TypeError, "either ids or per_epoch"),
        ({"per_epoch": [1, 2]}, TypeError, r"per_epoch must be a function.*\[1, 2\]"),
        ({"per_epoch": lambda epoch: [NUM_SAMPLES]}, ValueError, "outside the data set"),
        ({"per_epoch": lambda epoch: []}, ValueError, "no sample is selected"),
    ],
)
def test_functions_that_cannot_be_served(
    shards: str, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        select(make_dataset(shards), **arguments)


def test_a_dataset_is_left_as_it_was_where_nothing_could_be_selected(shards: str) -> None:
    loader = make_loader(make_dataset(shards))
    dataset: Any = loader.dataset
    for arguments in ({"ids": [NUM_SAMPLES]}, {"per_epoch": lambda epoch: [NUM_SAMPLES]}):
        with pytest.raises(ValueError):
            select(dataset, **arguments)  # pyright: ignore[reportArgumentType]
    assert_exactly_once(ids_of(loader), range(NUM_SAMPLES))
