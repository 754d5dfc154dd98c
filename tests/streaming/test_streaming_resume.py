# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A run that stops and goes on serves what the uninterrupted one serves, in the same order."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import pytest
from mds_samples import (
    BATCH,
    assert_fails,
    checked_ids,
    draw,
    make_attached,
    make_dataset,
    make_loader,
    served,
)
from streaming import StreamingDataLoader, StreamingDataset
from streaming.base.constant import RESUME
from streaming.base.shared import SharedMemory
from streaming.base.shared.prefix import _get_path

from composer_dataagent.streaming import SelectionCorruptError, select

SELECTIONS = [draw(size, size) for size in (60, 43, 37)]
WORKERS = pytest.mark.parametrize("workers", [0, 2])


def as_saved(state: dict[str, Any]) -> dict[str, Any]:
    """A state as it comes out of a checkpoint file."""
    return json.loads(json.dumps(state))


def uninterrupted(shards: str, workers: int) -> list[list[list[int]]]:
    attachment, loader = make_attached(shards, num_workers=workers)
    epochs = []
    for selected in SELECTIONS:
        attachment.serve(selected)
        epochs.append(served(loader))
    return epochs


def stopped_after(shards: str, workers: int, epoch: int, batches: int) -> dict[str, Any]:
    """The loader's state after some batches of an epoch of a run that goes no further."""
    attachment, loader = make_attached(shards, num_workers=workers)
    for selected in SELECTIONS[:epoch]:
        attachment.serve(selected)
        served(loader)
    attachment.serve(SELECTIONS[epoch])
    for at, batch in enumerate(loader, start=1):
        checked_ids(loader, batch)
        if at == batches:
            return as_saved(loader.state_dict())  # type: ignore[attr-defined]
    raise AssertionError("the epoch is shorter than that")


@WORKERS
@pytest.mark.parametrize("persistent", [False, True])
def test_mid_epoch(shards: str, workers: int, persistent: bool) -> None:
    expected = uninterrupted(shards, workers)
    state = stopped_after(shards, workers, epoch=1, batches=2)
    assert (state["epoch"], state["sample_in_epoch"]) == (1, 2 * BATCH)
    attachment, loader = make_attached(
        shards, num_workers=workers, persistent_workers=persistent and workers > 0
    )
    loader.load_state_dict(state)  # type: ignore[attr-defined]
    assert attachment.upcoming_epoch() == 1
    attachment.serve(SELECTIONS[1])
    assert served(loader) == expected[1][2:]
    attachment.serve(SELECTIONS[2])
    assert served(loader) == expected[2]


@WORKERS
def test_a_second_stop_in_the_resumed_epoch(shards: str, workers: int) -> None:
    expected = uninterrupted(shards, workers)
    attachment, loader = make_attached(shards, num_workers=workers)
    loader.load_state_dict(stopped_after(shards, workers, 1, 2))  # type: ignore[attr-defined]
    attachment.serve(SELECTIONS[1])
    batches = iter(loader)
    next(batches)
    state = as_saved(loader.state_dict())  # type: ignore[attr-defined]
    assert (state["epoch"], state["sample_in_epoch"]) == (1, 3 * BATCH)
    attachment, loader = make_attached(shards, num_workers=workers)
    loader.load_state_dict(state)  # type: ignore[attr-defined]
    attachment.serve(SELECTIONS[1])
    assert served(loader) == expected[1][3:]


@WORKERS
def test_after_the_last_batch_of_an_epoch(shards: str, workers: int) -> None:
    expected = uninterrupted(shards, workers)
    state = stopped_after(shards, workers, epoch=0, batches=len(expected[0]))
    attachment, loader = make_attached(shards, num_workers=workers)
    loader.load_state_dict(state)  # type: ignore[attr-defined]
    attachment.serve(SELECTIONS[0])
    assert served(loader) == []  # the rest of that epoch
    attachment.serve(SELECTIONS[1])
    assert served(loader) == expected[1]


def second_epoch_after_resume(loader: Any, resumed: Any) -> tuple[int, Any, Any]:
    """Save between the first and the second epoch as Composer does; run the second in both."""
    list(loader)
    state = as_saved(loader.dataset.state_dict(0, True))
    resumed.dataset.load_state_dict(state)
    return state["epoch"], [batch["id"].tolist() for batch in loader], resumed


def test_between_two_epochs_stock_names_the_one_that_ended(shards: str) -> None:
    stock, resumed = (make_loader(make_dataset(shards), StreamingDataLoader) for _ in range(2))
    epoch, expected, _ = second_epoch_after_resume(stock, resumed)
    assert epoch == 0
    assert [batch["id"].tolist() for batch in resumed] != expected


@WORKERS
def test_between_two_epochs_we_name_the_upcoming_one(shards: str, workers: int) -> None:
    (first, loader), (second, resumed) = (
        make_attached(shards, num_workers=workers) for _ in range(2)
    )
    first.serve(SELECTIONS[0])
    first.serve(SELECTIONS[1], epoch=1)
    second.serve(SELECTIONS[1], epoch=1)
    epoch, expected, _ = second_epoch_after_resume(loader, resumed)
    assert epoch == second.upcoming_epoch() == 1
    assert served(resumed) == expected


def test_before_the_first_epoch(shards: str) -> None:
    attachment, loader = make_attached(shards)
    attachment.serve(SELECTIONS[0])
    states = [loader.state_dict(), attachment.dataset.state_dict(0, True)]  # type: ignore[attr-defined]
    assert [state["epoch"] for state in states] == [0, 0]


@WORKERS
def test_another_selection_is_refused_in_the_middle_of_an_epoch(shards: str, workers: int) -> None:
    attachment, loader = make_attached(shards, num_workers=workers)
    loader.load_state_dict(stopped_after(shards, workers, 0, 1))  # type: ignore[attr-defined]
    attachment.serve(SELECTIONS[1])
    assert_fails(loader, SelectionCorruptError, r"middle of epoch 0.*select the same samples")


def test_another_selection_is_accepted_between_epochs(shards: str) -> None:
    attachment, loader = make_attached(shards)
    attachment.serve(SELECTIONS[0])
    state = as_saved(attachment.dataset.state_dict(0, True))
    attachment, loader = make_attached(shards)
    loader.load_state_dict(state)  # type: ignore[attr-defined]
    attachment.serve(SELECTIONS[1])
    assert sorted(chain(*served(loader))) == sorted(SELECTIONS[1])


def test_a_checkpoint_of_a_run_without_selections_is_taken_up(shards: str) -> None:
    stock = make_loader(make_dataset(shards), StreamingDataLoader)
    next(iter(stock))
    attachment, loader = make_attached(shards)
    loader.load_state_dict(as_saved(stock.state_dict()))  # type: ignore[attr-defined]
    attachment.serve(range(attachment.num_samples))
    assert len(served(loader)) == len(loader) - 1


def test_a_checkpoint_names_what_its_epoch_began_with(shards: str) -> None:
    """``select`` in the middle of an epoch is for the next one, and the checkpoint knows."""
    loader = make_loader(make_dataset(shards), StreamingDataLoader)
    select(loader.dataset, SELECTIONS[0])  # type: ignore[arg-type]
    batches = iter(loader)
    first = next(batches)["id"].tolist()
    select(loader.dataset, SELECTIONS[1])  # type: ignore[arg-type]
    select(loader.dataset, SELECTIONS[2])  # type: ignore[arg-type]
    state = as_saved(loader.state_dict())  # type: ignore[attr-defined]
    rest = [batch["id"].tolist() for batch in batches]
    assert sorted(chain(first, *rest)) == sorted(SELECTIONS[0])
    for selected, refused in [(SELECTIONS[2], True), (SELECTIONS[0], False)]:
        resumed = make_loader(make_dataset(shards), StreamingDataLoader)
        resumed.load_state_dict(state)  # type: ignore[attr-defined]
        select(resumed.dataset, selected)  # type: ignore[arg-type]
        if refused:
            with pytest.raises(SelectionCorruptError):
                list(resumed)
        else:
            assert [batch["id"].tolist() for batch in resumed] == rest


class Nested(StreamingDataset):
    """Samples whose batch is ``((x, 2x), id)``: its first element has two entries, not ``B``."""

    def __getitem__(self, at: Any) -> Any:
        sample = super().__getitem__(at)
        return (sample["x"], 2 * sample["x"]), sample["id"]


@WORKERS
def test_nested_batches_are_counted_right(shards: str, workers: int) -> None:
    attachment, loader = make_attached(shards, Nested, num_workers=workers)
    attachment.serve(SELECTIONS[0])
    batches = iter(loader)
    for _ in range(3):
        (x, doubled), ids = next(batches)
        assert (doubled == 2 * x).all() and ids.equal(loader.sample_ids)  # type: ignore[attr-defined]
    assert loader.state_dict()["sample_in_epoch"] == 3 * BATCH  # type: ignore[attr-defined]


# ---------------------------------------------------------------------- in the same process


def take(loader: Any, batches: int) -> list[list[int]]:
    """Some batches of an epoch that is then left."""
    return [checked_ids(loader, batch) for _, batch in zip(range(batches), loader, strict=False)]


HERE = pytest.mark.parametrize(
    ("workers", "persistent"), [(0, False), (2, False), (2, True)], ids=["0", "2", "persistent"]
)


@WORKERS
@pytest.mark.parametrize("persistent", [False, True])
def test_a_state_is_loaded_where_later_epochs_have_run(
    shards: str, workers: int, persistent: bool
) -> None:
    """As after an epoch that failed; stock code passes over it without a word."""
    arguments = {"num_workers": workers, "persistent_workers": persistent and workers > 0}
    attachment, loader = make_attached(shards, **arguments)
    streaming: Any = loader
    orders, state = [], None
    for epoch in range(3):
        attachment.serve(draw(60, epoch))
        batches = iter(loader)
        orders.append([checked_ids(loader, next(batches)) for _ in range(2)])
        if epoch == 1:
            state = streaming.state_dict()
        orders[-1] += [checked_ids(loader, batch) for batch in batches]
    for _ in range(2):
        streaming.load_state_dict(state)
        assert attachment.upcoming_epoch() == 1
        attachment.serve(draw(60, 1))
        assert served(loader) == orders[1][2:]
        attachment.serve(draw(60, 2))
        assert served(loader) == orders[2]


def test_a_state_that_another_rank_is_about_to_write(shards: str) -> None:
    """It makes the memory first."""
    attachment, loader = make_attached(shards)
    attachment.serve(range(60))
    batches = iter(loader)
    first = checked_ids(loader, next(batches))
    del batches
    path = _get_path(attachment.dataset._shm_prefix_int, RESUME)
    SharedMemory(name=path, size=1 << 14)
    attachment.resume_here(len(first))
    assert sorted([*first, *chain(*served(loader))]) == list(range(60))


@HERE
def test_resume_here(shards: str, workers: int, persistent: bool) -> None:
    expected = uninterrupted(shards, workers)
    attachment, loader = make_attached(shards, num_workers=workers, persistent_workers=persistent)
    attachment.serve(SELECTIONS[0])
    assert take(loader, 3) == expected[0][:3]
    assert attachment.upcoming_epoch() == 1
    attachment.resume_here(3 * BATCH)
    assert attachment.upcoming_epoch() == 0
    assert served(loader) == expected[0][3:]
    assert attachment.upcoming_epoch() == 1
    for epoch in (1, 2):
        attachment.serve(SELECTIONS[epoch])
        assert served(loader) == expected[epoch]


@WORKERS
def test_resume_here_again_and_again(shards: str, workers: int) -> None:
    """In one epoch, called twice in a row, after a checkpoint, and before the first batch."""
    expected = uninterrupted(shards, workers)
    attachment, loader = make_attached(shards, num_workers=workers)
    loader.load_state_dict(stopped_after(shards, workers, 1, 1))  # type: ignore[attr-defined]
    attachment.serve(SELECTIONS[1])
    assert take(loader, 1) == expected[1][1:2]
    for done in (2, 3, 4):
        for _ in range(2):
            attachment.resume_here(done * BATCH)
        assert take(loader, 1) == expected[1][done : done + 1]
        state = as_saved(loader.state_dict())  # type: ignore[attr-defined]
        assert (state["epoch"], state["sample_in_epoch"]) == (1, (done + 1) * BATCH)
    attachment.resume_here(0)
    assert served(loader) == expected[1]
    attachment.serve(SELECTIONS[2])
    assert served(loader) == expected[2]


@WORKERS
def test_resume_here_at_the_end_of_the_epoch(shards: str, workers: int) -> None:
    expected = uninterrupted(shards, workers)
    attachment, loader = make_attached(shards, num_workers=workers)
    attachment.serve(SELECTIONS[0])
    take(loader, len(expected[0]))
    attachment.resume_here(len(SELECTIONS[0]))
    assert served(loader) == []
    attachment.serve(SELECTIONS[1])
    assert served(loader) == expected[1]


def test_resume_here_when_the_next_selection_was_made_already(shards: str) -> None:
    expected = uninterrupted(shards, 0)
    attachment, loader = make_attached(shards)
    attachment.serve(SELECTIONS[0])
    take(loader, 3)
    attachment.serve(SELECTIONS[1])
    assert len(attachment.dataset) == len(SELECTIONS[1])
    attachment.resume_here(3 * BATCH)
    assert len(attachment.dataset) == len(SELECTIONS[0])
    assert served(loader) == expected[0][3:]
    assert served(loader) == expected[1]


def test_resume_here_with_another_selection_is_refused(shards: str) -> None:
    attachment, loader = make_attached(shards)
    attachment.serve(SELECTIONS[0])
    take(loader, 3)
    attachment.resume_here(3 * BATCH)
    attachment.serve(SELECTIONS[1])
    assert_fails(loader, SelectionCorruptError, r"middle of epoch 0.*select the same samples")


def test_a_part_of_a_sample(shards: str) -> None:
    attachment, loader = make_attached(shards)
    attachment.serve(range(60))
    served(loader)
    with pytest.raises(TypeError, match="float"):
        attachment.resume_here(2.5)  # type: ignore[arg-type]


def test_resume_here_where_that_makes_no_sense(shards: str) -> None:
    attachment, loader = make_attached(shards)
    attachment.serve(SELECTIONS[0])
    with pytest.raises(RuntimeError, match="No epoch has begun"):
        attachment.resume_here(BATCH)
    take(loader, 3)
    for outside in (-1, len(SELECTIONS[0]) + 2):
        with pytest.raises(ValueError, match=rf"sample_in_epoch={outside} is not in epoch 0"):
            attachment.resume_here(outside)
    assert attachment.upcoming_epoch() == 1
