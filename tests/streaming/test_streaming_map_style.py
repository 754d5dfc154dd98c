# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Map-style data: a loader serves what is selected, in the order that its sampler would give it."""

from __future__ import annotations

import pickle
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from map_samples import (
    BATCH,
    NUM_SAMPLES,
    Squares,
    checked_ids,
    make_attached,
    make_loader,
    served,
    stock,
)
from streaming import StreamingDataLoader
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
)

from composer_dataagent.streaming import (
    SelectionCorruptError,
    SelectionMissingError,
    ShortEpochError,
    attach,
    clear,
    select,
)
from composer_dataagent.streaming.map_style import MapAttachment
from composer_dataagent.streaming.sampler import SelectedSampler, deal

ALL = np.arange(NUM_SAMPLES)
WORKERS = pytest.mark.parametrize(
    ("workers", "persistent"), [(0, False), (2, False), (2, True)], ids=["0", "2", "persistent"]
)


def draw(size: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).permutation(NUM_SAMPLES)[:size].tolist()


def random_states() -> tuple[Any, ...]:
    """Where the global generators are."""
    return random.getstate(), pickle.dumps(np.random.get_state()), torch.get_rng_state().tolist()


SELECTIONS = [draw(size, size) for size in (40, 27, 19)]


def one_rank(dataset: Any = None, **arguments: Any) -> DistributedSampler:
    return DistributedSampler(dataset or Squares(), num_replicas=1, rank=0, **arguments)


# ---------------------------------------------------------------------- the sampler's laws


@st.composite
def epochs(draw: st.DrawFn) -> dict[str, Any]:
    mask = draw(st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
    return {
        "mask": np.array(mask),
        "ranks": draw(st.integers(1, 5)),
        "batch_size": draw(st.integers(1, 9)),
        "drop_last": draw(st.booleans()),
        "sampler_drops": draw(st.booleans()),
        "shuffle": draw(st.booleans()),
        "seed": draw(st.integers(0, 3)),
        "epoch": draw(st.integers(0, 3)),
    }


@given(epochs())
@settings(max_examples=200)
def test_all_ranks_together_serve_what_is_selected(case: dict[str, Any]) -> None:
    mask, ranks, batch_size = case["mask"], case["ranks"], case["batch_size"]
    selected, counts, batches = np.flatnonzero(mask), Counter(), []
    left_out = set()
    for rank in range(ranks):
        sampler = SelectedSampler(
            DistributedSampler(
                Squares(len(mask)),
                ranks,
                rank,
                shuffle=case["shuffle"],
                seed=case["seed"],
                drop_last=case["sampler_drops"],
            ),
            len(mask),
            0,
        )
        loader = DataLoader(
            Squares(len(mask)), batch_size, sampler=sampler, drop_last=case["drop_last"]
        )
        sampler.resume(case["epoch"], 0)
        if len(selected) < ranks and case["sampler_drops"]:
            with pytest.raises(ValueError, match="drop_last=True: select at least one for each"):
                sampler.publish(mask, case["epoch"])
            return
        sampler.publish(mask, case["epoch"])
        batches_here = list(loader.batch_sampler)  # type: ignore[arg-type]
        assert len(loader) == len(batches_here)
        batches.append([len(batch) for batch in batches_here])
        counts.update(chain(*batches_here))
        left_out.add(MapAttachment(loader).may_leave_out(len(selected), loader))
    assert all(sizes == batches[0] for sizes in batches)
    assert left_out == {len(set(selected) - set(counts))}
    assert set(counts) <= set(selected)
    if not (case["drop_last"] or case["sampler_drops"]):
        assert set(counts) == set(selected)
        assert sum(counts.values()) == -(-len(selected) // ranks) * ranks


@given(epochs())
def test_everything_selected_is_what_a_distributed_sampler_serves(case: dict[str, Any]) -> None:
    ids = np.arange(len(case["mask"]))
    for rank in range(case["ranks"]):
        arguments = {name: case[name] for name in ("shuffle", "seed")}
        sampler = DistributedSampler(
            Squares(len(ids)), case["ranks"], rank, drop_last=case["sampler_drops"], **arguments
        )
        sampler.set_epoch(case["epoch"])
        assert deal(ids, sampler, 11, 22).tolist() == list(sampler)


@given(epochs())
def test_a_random_order_depends_on_seed_and_epoch_alone(case: dict[str, Any]) -> None:
    ids = np.flatnonzero(case["mask"])
    sampler = RandomSampler(Squares(len(case["mask"])))
    torch.manual_seed(case["ranks"])
    order = deal(ids, sampler, case["seed"], case["epoch"])
    torch.manual_seed(case["batch_size"])
    assert deal(ids, sampler, case["seed"], case["epoch"]).tolist() == order.tolist()
    assert sorted(order) == ids.tolist()


# ---------------------------------------------------------------------- what a loader serves


@WORKERS
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_three_epochs_with_a_selection_each(
    workers: int, persistent: bool, shuffle: bool, drop_last: bool
) -> None:
    attachment, loader = make_attached(
        num_workers=workers, persistent_workers=persistent, shuffle=shuffle, drop_last=drop_last
    )
    assert (attachment.num_samples, len(loader)) == (NUM_SAMPLES, len(make_loader()) - drop_last)
    for epoch, selected in enumerate([*SELECTIONS, ALL]):
        assert attachment.upcoming_epoch() == epoch
        record = attachment.serve(selected)
        assert (record.epoch, record.size) == (epoch, len(selected))
        batches = served(loader)
        assert len(batches) == len(loader)
        ids = list(chain(*batches))
        if not drop_last:
            assert sorted(ids) == sorted(selected)
        assert len(ids) == len(set(ids)) >= len(selected) - BATCH * drop_last
        assert set(ids) <= set(selected)
        if not shuffle:
            assert ids == sorted(selected)[: len(ids)]


def test_records_are_those_of_a_mask() -> None:
    attachment, _ = make_attached()
    other, _ = make_attached(shuffle=True)
    mask = np.zeros(NUM_SAMPLES, bool)
    mask[[5, 3]] = True
    assert attachment.serve([5, 3]) == other.serve(torch.from_numpy(mask))
    assert attachment.serve([5, 4]).digest != other.serve([3, 5]).digest


@WORKERS
@pytest.mark.parametrize("given_sampler", ["sequential", "distributed", "distributed in order"])
def test_everything_selected_is_stock(workers: int, persistent: bool, given_sampler: str) -> None:
    def sampler() -> Any:
        if given_sampler == "sequential":
            return SequentialSampler(Squares())
        return one_rank(shuffle=given_sampler == "distributed", seed=3)

    arguments = {"num_workers": workers, "persistent_workers": persistent}
    plain = make_loader(sampler=sampler(), **arguments)
    attachment, loader = make_attached(sampler=sampler(), **arguments)
    for epoch in (0, 1, 5):
        for made in (plain, loader):
            if hasattr(made.sampler, "set_epoch"):
                made.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        attachment.serve(ALL)
        torch.manual_seed(0)
        expected, state = stock(plain), torch.get_rng_state()
        torch.manual_seed(0)
        assert served(loader) == expected
        assert torch.get_rng_state().equal(state), "global randomness was used in another way"


def test_random_order_follows_the_seed_given_and_the_epoch() -> None:
    def orders(shuffle_seed: int, generator: torch.Generator | None = None) -> list[list[int]]:
        loader = make_loader(shuffle=True, generator=generator)
        attachment = attach(loader.dataset, loader, shuffle_seed=shuffle_seed)
        served_ids = []
        for _ in range(2):
            attachment.serve(range(30))
            served_ids.append(list(chain(*served(loader))))
        return served_ids

    first, second = orders(1)
    assert first != second and orders(1) == [first, second]
    assert orders(2)[0] != first
    own = [orders(seed, torch.Generator().manual_seed(7)) for seed in (1, 2)]
    assert own[0] == own[1] != [first, second]
    torch.manual_seed(9)
    assert orders(1, torch.default_generator) == [first, second]


def test_nobody_notices() -> None:
    dataset, generator = Squares(), torch.Generator()
    sampler = RandomSampler(dataset, generator=generator)
    loader = make_loader(dataset, sampler=sampler)
    batch_sampler = loader.batch_sampler
    before, own = random_states(), generator.get_state()
    attachment = attach(dataset, loader)
    attachment.serve(SELECTIONS[0])
    assert type(dataset) is Squares and isinstance(loader, DataLoader)
    assert type(loader).__name__ == "DataLoader" and loader.sampler is sampler
    assert loader.batch_sampler is batch_sampler
    assert random_states() == before and generator.get_state().equal(own)


def test_looking_at_the_samplers_changes_nothing() -> None:
    attachment, loader = make_attached(shuffle=True)
    attachment.serve(SELECTIONS[0])
    iter(loader)
    looked: Any = loader.batch_sampler
    assert list(looked) == list(looked) == served(loader)
    assert attachment.upcoming_epoch() == 1
    attachment.serve(SELECTIONS[1])
    assert list(looked) == served(loader)


@WORKERS
def test_an_epoch_that_is_left_half_way(workers: int, persistent: bool) -> None:
    attachment, loader = make_attached(num_workers=workers, persistent_workers=persistent)
    attachment.serve(SELECTIONS[0])
    attachment.serve(SELECTIONS[1], epoch=1)
    for batch in loader:
        checked_ids(loader, batch)
        break
    assert sorted(chain(*served(loader))) == sorted(SELECTIONS[1])


def test_two_epochs_at_once() -> None:
    attachment, loader = make_attached(shuffle=True)
    for epoch in range(2):
        attachment.serve(SELECTIONS[epoch], epoch)
    first, second = iter(loader), iter(loader)
    ids: list[list[int]] = [[], []]
    for _ in range(3):
        for at, batches in enumerate((first, second)):
            ids[at] += checked_ids(loader, next(batches))
    for at, batches in enumerate((first, second)):
        for batch in batches:
            ids[at] += checked_ids(loader, batch)
    assert [sorted(epoch) for epoch in ids] == [sorted(ids) for ids in SELECTIONS[:2]]


def test_an_epoch_without_a_selection() -> None:
    attachment, loader = make_attached()
    with pytest.raises(SelectionMissingError, match=r"epoch 0 .*iterated over the training Data"):
        list(loader)
    attachment.serve(SELECTIONS[0])
    served(loader)
    with pytest.raises(SelectionMissingError, match=r"epoch 1 .*a DataLoader of their own"):
        list(loader)


def test_selections_of_later_epochs() -> None:
    attachment, loader = make_attached()
    sizes = [21, 8, 30]
    for epoch, size in reversed(list(enumerate(sizes))):
        attachment.serve(range(size), epoch)
    for size in sizes:
        assert len(loader) == -(-size // BATCH)
        assert sorted(chain(*served(loader))) == list(range(size))
    assert len(loader) == -(-30 // BATCH)  # the last one's, until the next is selected


def test_always_and_attached_twice() -> None:
    attachment, loader = make_attached()
    attachment.serve_always(SELECTIONS[0])
    assert attachment.has_standing_selection() and len(loader) == -(-40 // BATCH)
    for _ in range(2):
        assert sorted(chain(*served(loader))) == sorted(SELECTIONS[0])
    again = attach(loader.dataset, loader)
    assert again.has_standing_selection() and again.upcoming_epoch() == 2
    again.serve(SELECTIONS[1])
    assert sorted(chain(*served(loader))) == sorted(SELECTIONS[1])
    assert sorted(chain(*served(loader))) == sorted(SELECTIONS[0])
    batches = iter(loader)
    first = checked_ids(loader, next(batches))
    again.serve(SELECTIONS[1])  # replaced before it was served
    again.serve_always(ALL)
    again.resume_here(BATCH)  # the running epoch keeps what it began with
    assert sorted([*first, *chain(*served(loader))]) == sorted(SELECTIONS[0])
    assert not again.has_standing_selection()
    assert list(chain(*served(loader))) == ALL.tolist()


# ---------------------------------------------------------------------- batches of all kinds


def sorted_in_place(samples: list[Any]) -> Any:
    samples.sort(key=lambda sample: -sample[1])
    return default_collate(samples)


class Fetched(Squares):
    """Reads a whole batch at once, and changes the list that it is given."""

    def __getitems__(self, ids: list[int]) -> Any:
        numbers = torch.tensor(ids)
        ids.clear()
        return (numbers * numbers).float(), numbers


def as_it_is(samples: Any) -> Any:
    return samples


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("dataset", "collate"), [(Squares, sorted_in_place), (Fetched, as_it_is)])
def test_ids_follow_the_samples(workers: int, dataset: type[Squares], collate: Any) -> None:
    attachment, loader = make_attached(dataset(), collate_fn=collate, num_workers=workers)
    attachment.serve(SELECTIONS[0])
    assert sorted(chain(*served(loader))) == sorted(SELECTIONS[0])
    assert pickle.loads(pickle.dumps(loader.collate_fn)).collate is collate


def test_ids_outlive_their_epoch_alone() -> None:
    """A checkpoint that holds a batch's ids must not hold those of the epoch."""
    attachment, loader = make_attached()
    attachment.serve(ALL)
    next(iter(loader))
    assert loader.sample_ids.untyped_storage().nbytes() == 8 * BATCH  # type: ignore[attr-defined]


class Ending(Squares):
    def __getitem__(self, at: int) -> Any:
        if at == 20:
            raise StopIteration
        return super().__getitem__(at)


def test_an_epoch_that_ends_short() -> None:
    attachment, loader = make_attached(Ending())
    attachment.serve(ALL)
    with pytest.raises(ShortEpochError, match=r"after 2 of its 8 batches.*StopIteration"):
        served(loader)


class Named(Squares):
    """A dict with a random transform, out of every generator that there is."""

    def __getitem__(self, at: int) -> Any:
        noise = torch.rand(1) + np.random.rand() + random.random()
        return {"x": torch.full((2, 2), float(at)), "noise": noise, "name": f"sample {at}"}


def test_raw_samples() -> None:
    attachment, _ = make_attached()
    sample = attachment.raw_sample(3)
    assert sample == {"0": np.float32(9.0), "1": 3} and isinstance(sample["0"], np.ndarray)
    attachment, _ = make_attached(Named())
    before = random_states()
    sample = attachment.raw_sample(7)
    assert sample["name"] == "sample 7" and (sample["x"] == np.full((2, 2), 7.0)).all()
    assert random_states() == before
    for outside in (-1, NUM_SAMPLES):
        with pytest.raises(IndexError, match=rf"sample id {outside} .*0 to {NUM_SAMPLES - 1}"):
            attachment.raw_sample(outside)


# ---------------------------------------------------------------------- stopping and going on


def uninterrupted(**arguments: Any) -> list[list[list[int]]]:
    attachment, loader = make_attached(shuffle=True, **arguments)
    epochs = []
    for selected in SELECTIONS:
        attachment.serve(selected)
        epochs.append(served(loader))
    return epochs


@pytest.mark.parametrize("done", range(5))
@pytest.mark.parametrize("workers", [0, 2])
def test_a_new_process_goes_on(workers: int, done: int) -> None:
    expected = uninterrupted()
    attachment, loader = make_attached(shuffle=True, num_workers=workers)
    samples = min(done * BATCH, len(SELECTIONS[1]))
    attachment.resume_at(1, samples)
    assert attachment.upcoming_epoch() == 1
    attachment.serve(SELECTIONS[1])
    assert len(loader) == len(expected[1])  # of the whole epoch, as the trainer counts
    if samples:
        attachment.resume_here(samples)  # that very epoch
    assert served(loader) == expected[1][done:]
    if not workers:
        assert loader.dataset.reads == len(SELECTIONS[1]) - samples  # type: ignore[attr-defined]
    attachment.serve(SELECTIONS[2])
    assert served(loader) == expected[2]


@pytest.mark.parametrize("ranks", [2, 3])
def test_several_ranks_go_on(ranks: int) -> None:
    mask = np.zeros(NUM_SAMPLES, bool)
    mask[SELECTIONS[0]] = True

    def sampler(rank: int) -> SelectedSampler:
        dealt = SelectedSampler(DistributedSampler(Squares(), ranks, rank), NUM_SAMPLES, 0)
        dealt.publish(mask, 0)
        return dealt

    for rank in range(ranks):
        whole, resumed = sampler(rank), sampler(rank)
        resumed.resume(0, 4 * ranks)
        assert resumed.begin_epoch().tolist() == whole.begin_epoch().tolist()[4:]
        with pytest.raises(ValueError, match=r"sample_in_epoch=5 .*all ranks together"):
            resumed.resume_here(5)


def test_a_sampler_of_many_makes_no_list_of_them() -> None:
    """It would take five times the memory of the array: gigabytes, for 100 million samples."""
    many = 1_000_003
    sampler = SelectedSampler(SequentialSampler(range(many)), many, 0)
    sampler.publish(np.ones(many, bool), 0)
    order = sampler.begin_epoch()
    tracemalloc.start()
    try:
        ids = iter(sampler)
        first = next(ids)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert first == 0 and peak < order.nbytes / 2
    assert np.array_equal(np.fromiter(ids, np.int64), order[1:])


@WORKERS
def test_resume_here(workers: int, persistent: bool) -> None:
    expected = uninterrupted()
    attachment, loader = make_attached(
        shuffle=True, num_workers=workers, persistent_workers=persistent
    )

    def take(batches: int) -> list[list[int]]:
        return [
            checked_ids(loader, batch) for _, batch in zip(range(batches), loader, strict=False)
        ]

    attachment.serve(SELECTIONS[0])
    assert take(2) == expected[0][:2]
    attachment.serve(SELECTIONS[1])  # made already when the epoch is taken up again
    for done in (2, 3):
        for _ in range(2):
            attachment.resume_here(done * BATCH)
        assert attachment.upcoming_epoch() == 0 and len(loader) == len(expected[0])
        assert take(1) == expected[0][done : done + 1]
    attachment.resume_here(0)
    assert served(loader) == expected[0]
    attachment.resume_here(len(SELECTIONS[0]))
    assert served(loader) == []
    assert served(loader) == expected[1]
    attachment.serve(SELECTIONS[2])
    assert served(loader) == expected[2]


def test_resume_here_where_that_makes_no_sense() -> None:
    attachment, loader = make_attached()
    attachment.serve(SELECTIONS[0])
    with pytest.raises(RuntimeError, match="No epoch has begun"):
        attachment.resume_here(BATCH)
    next(iter(loader))
    for outside in (-1, len(SELECTIONS[0]) + 1):
        with pytest.raises(ValueError, match=rf"sample_in_epoch={outside} is not in epoch 0"):
            attachment.resume_here(outside)
    assert attachment.upcoming_epoch() == 1
    attachment.resume_here(BATCH)
    with pytest.raises(SelectionCorruptError, match=r"Epoch 0 began with another selection"):
        attachment.serve(SELECTIONS[1])
    attachment.serve(SELECTIONS[0])
    assert len(served(loader)) == len(loader) - 1


# ---------------------------------------------------------------------- refusals


class Weird(RandomSampler):
    def __iter__(self) -> Iterator[int]:
        return iter([0, 0, 0])


class Doubling(DataLoader):
    def __iter__(self) -> Any:
        return (batch for batch in super().__iter__() for _ in range(2))


DATA = Squares()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"sampler": WeightedRandomSampler([1.0] * NUM_SAMPLES, NUM_SAMPLES)},
            r"sampler=WeightedRandomSampler.*shuffle=True",
        ),
        (
            {"sampler": SubsetRandomSampler([1, 2, 3])},
            r"sampler=SubsetRandomSampler.*Subset\(dataset, ids\)",
        ),
        ({"sampler": [3, 1, 2]}, r"sampler=list"),
        ({"sampler": Weird(DATA)}, r"sampler=Weird"),
        (
            {"batch_sampler": BatchSampler(SequentialSampler(DATA), 4, False), "batch_size": 1},
            r"batch_sampler=BatchSampler.*batch_size, drop_last and shuffle",
        ),
        ({"batch_size": None}, r"batch_size=None.*let it make the batches"),
        ({"sampler": RandomSampler(DATA, replacement=True)}, r"replacement=True.*remove it"),
        ({"sampler": RandomSampler(DATA, num_samples=5)}, r"draws 5 of 61.*remove num_samples"),
        ({"sampler": SequentialSampler(range(7))}, r"draws 7 of 7.*has 61.*dataset itself"),
        ({"sampler": one_rank(Squares(30))}, r"DistributedSampler draws 30 of 30"),
        ({"num_workers": 2, "in_order": False}, r"in_order=False.*remove it"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_loaders_that_a_selection_cannot_be_combined_with(
    arguments: dict[str, Any], message: str
) -> None:
    loader = make_loader(DATA, **arguments)
    with pytest.raises(ValueError, match=message):
        attach(DATA, loader)
    assert type(loader) is DataLoader and not hasattr(loader, "sample_ids")


def test_what_else_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Squares .*with the loader.*Subset\(dataset, ids\)"):
        attach(DATA)
    with pytest.raises(TypeError, match=r"torch DataLoader.*list"):
        attach(DATA, [DATA])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="another dataset"):
        attach(Squares(), make_loader(DATA))
    for cls in (Doubling, StreamingDataLoader):
        with pytest.raises(ValueError, match=rf"{cls.__name__} overrides DataLoader\.__iter__"):
            attach(DATA, cls(DATA, batch_size=BATCH))
    with pytest.raises(ValueError, match=r"memory_map=True is for MDS shards"):
        attach(DATA, make_loader(DATA), memory_map=True)
    with pytest.raises(TypeError, match=r"Subset\(dataset, ids\)"):
        select(DATA, [1, 2])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"clear\(\).*Squares"):
        clear(DATA)  # type: ignore[arg-type]


def test_workers_that_are_running_already() -> None:
    loader = make_loader(num_workers=1, persistent_workers=True)
    list(loader)
    with pytest.raises(RuntimeError, match=r"already running.*before the first iteration"):
        attach(loader.dataset, loader)


class Endless(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        return iter(range(5))


class Unsized:
    def __getitem__(self, at: int) -> int:
        return at


@pytest.mark.parametrize("cls", [Endless, Unsized])
def test_datasets_that_are_neither(cls: type[Any]) -> None:
    dataset = cls()
    with pytest.raises(TypeError, match=rf"{cls.__name__}.*StreamingDataset.*map-style.*MDSWriter"):
        attach(dataset, DataLoader(dataset))


def test_a_subset_and_a_list_are_map_style_too() -> None:
    for dataset in (Subset(Squares(), range(10, 40)), [float(i) for i in range(30)]):
        loader = DataLoader(dataset, BATCH, shuffle=True)  # type: ignore[arg-type]
        attach(dataset, loader).serve([0, 29])
        assert len(list(loader)) == 1
        assert sorted(loader.sample_ids.tolist()) == [0, 29]  # type: ignore[attr-defined]
