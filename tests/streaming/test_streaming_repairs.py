# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The repairs of StreamingDataset: alone they change no sample, and nothing is left open."""

from __future__ import annotations

import os
from typing import Any

import pytest
from mds_samples import Bare, draw, make_attached, make_dataset, make_loader, served
from streaming import StreamingDataset

from composer_dataagent.streaming.dataset import selective
from composer_dataagent.streaming.repairs import repaired


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("workers", [0, 2])
def test_repaired_alone_serves_what_stock_serves(shards: str, workers: int) -> None:
    """There is no selection: the repairs do not need one."""
    stock, mended = (make_loader(make_dataset(shards), num_workers=workers) for _ in range(2))
    dataset: Any = mended.dataset
    dataset.__class__ = repaired(StreamingDataset)
    dataset.process_id = os.getpid()
    dataset.watch()
    for _ in range(2):
        expected = [batch["id"].tolist() for batch in stock]
        assert [batch["id"].tolist() for batch in mended] == expected


def test_classes_are_made_once_and_named_as_the_users() -> None:
    for make in (repaired, selective):
        made = make(Bare)
        assert made is make(Bare) and issubclass(made, Bare)
        assert (made.__name__, made.__module__) == (Bare.__name__, Bare.__module__)
    assert selective(Bare).__bases__ == (repaired(Bare),)
    assert repaired(Bare).__bases__ == (Bare,)


@pytest.mark.parametrize("epoch", [1, 0], ids=["pending", "past"])
def test_asking_for_the_upcoming_epoch_after_a_resume_keeps_no_file_open(
    shards: str, epoch: int
) -> None:
    attachment, loader = make_attached(shards)
    attachment.serve(draw(40, 0))
    served(loader)
    attachment.serve(draw(40, 1))
    dataset = attachment.dataset
    dataset.load_state_dict({**dataset.state_dict(8, True), "epoch": epoch})
    dataset.next_epoch = 1  # as when the epoch before has run
    before = open_files()
    for _ in range(50):
        assert attachment.upcoming_epoch() == 1
        dataset.state_dict(8, True)
    assert open_files() == before


def test_loading_states_again_keeps_no_file_open_and_the_last_one_counts(shards: str) -> None:
    attachment, _ = make_attached(shards)
    attachment.serve_always(range(40))
    dataset = attachment.dataset
    state = dataset.state_dict(8, True)
    dataset.load_state_dict({**state, "epoch": 0})
    before = open_files()
    for epoch in (3, 123456, 7):
        dataset.load_state_dict({**state, "epoch": epoch})
        assert attachment.upcoming_epoch() == epoch
    assert open_files() == before


def test_the_plan_of_an_epoch_that_is_over_is_not_kept(shards: str) -> None:
    attachment, loader = make_attached(shards)
    for _ in range(2):
        attachment.serve(range(90))
        served(loader)
    of_last = attachment.dataset._iterator
    attachment.serve(range(90))
    served(loader)
    assert not len(of_last.sample_ids)


def test_defaults_after_a_state_that_is_past(shards: str) -> None:
    """They are those of a dataset that never saw a state."""
    for arguments, nodes in [({}, 1), ({"shuffle_algo": "py1s"}, 64), ({"shuffle_seed": 3}, 1)]:
        attachment, loader = make_attached(shards, dataset=arguments)
        attachment.serve(range(90))
        served(loader)
        state = attachment.dataset.state_dict(8, True)
        attachment.dataset.load_state_dict({**state, "shuffle_seed": 77})
        attachment.dataset.next_epoch = 1  # as when that epoch has run
        attachment.dataset.num_canonical_nodes = None
        assert attachment.upcoming_epoch() == 1
        assert attachment.dataset.num_canonical_nodes == nodes
        assert attachment.dataset.shuffle_seed == arguments.get("shuffle_seed", 9176)
