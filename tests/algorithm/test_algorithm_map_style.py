# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Map-style data through Composer's own Trainer: the same line, the same guarantees."""

from __future__ import annotations

import signal
from itertools import chain
from pathlib import Path
from typing import Any

import killable_run
import numpy as np
import pytest
import torch
from composer.core import Callback
from digits_run import NUM_SAMPLES, Recorder, make_map_loader, make_model, weights_of
from killable_run import saved_before
from map_ranks import run_ranks
from same_states import assert_same
from torch.utils.data import DataLoader, WeightedRandomSampler

from composer_dataagent import DataAgent
from composer_dataagent.report import choose_samples, read_run

HALF = 102
ONE_RANK: dict[str, Any] = {"num_replicas": 1, "rank": 0}
LOADERS = pytest.mark.parametrize(
    "loader",
    [
        {},
        {"shuffle": False},
        {"distributed": ONE_RANK},
        {"num_workers": 2},
        {"num_workers": 2, "persistent_workers": True, "distributed": ONE_RANK},
    ],
    ids=str,
)


@LOADERS
def test_an_epoch_serves_the_selected_samples_once(
    make_trainer: Any, loader: dict[str, Any]
) -> None:
    recorder = Recorder()
    trainer = make_trainer(
        DataAgent(ratio=0.5), loader=make_map_loader(**loader), callbacks=[recorder]
    )
    trainer.fit()
    first, *pruned = recorder.by_epoch()
    assert sorted(first) == list(range(NUM_SAMPLES))
    for ids in pruned:
        assert len(ids) == len(set(ids)) == HALF
    assert set(pruned[0]) != set(pruned[1])
    assert int(trainer.state.timestamp.sample) == NUM_SAMPLES + 2 * HALF
    if loader.get("shuffle", True):
        assert all(ids != sorted(ids) for ids in (first, *pruned))


@pytest.mark.parametrize(
    ("loader", "samples"),
    [
        ({"drop_last": True}, (192, 96)),
        ({"drop_last": True, "num_workers": 2}, (192, 96)),
        ({"distributed": {**ONE_RANK, "drop_last": True}}, (NUM_SAMPLES, HALF)),
    ],
    ids=str,
)
def test_incomplete_batches_may_be_dropped(
    make_trainer: Any, loader: dict[str, Any], samples: tuple[int, int]
) -> None:
    recorder = Recorder()
    make_trainer(
        DataAgent(ratio=0.5), loader=make_map_loader(**loader), callbacks=[recorder], epochs=2
    ).fit()
    assert tuple(len(set(ids)) for ids in recorder.by_epoch()) == samples


@pytest.mark.parametrize(
    "loader",
    [
        {"shuffle": False},
        {"shuffle": False, "num_workers": 2, "persistent_workers": True},
        {"distributed": {**ONE_RANK, "seed": 4}},
        {"distributed": {**ONE_RANK, "drop_last": True}, "drop_last": True},
    ],
    ids=str,
)
def test_full_ratio_is_bit_identical_to_training_without(
    make_trainer: Any, loader: dict[str, Any]
) -> None:
    weights = []
    for agent in (None, DataAgent(ratio=1.0)):
        model = make_model(dropout=0.3)
        trainer = make_trainer(agent, model=model, loader=make_map_loader(**loader))
        trainer.fit()
        weights.append(weights_of(trainer))
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


def test_the_dataset_stays_as_it_is_and_only_selected_samples_are_read(make_trainer: Any) -> None:
    loader = make_map_loader()
    dataset: Any = loader.dataset
    before = dict(vars(dataset))
    make_trainer(DataAgent(ratio=0.5), loader=loader).fit()
    assert dataset.reads == NUM_SAMPLES + 2 * HALF
    assert vars(dataset) == {**before, "reads": dataset.reads}


def test_runs_in_one_process_over_one_loader(make_trainer: Any) -> None:
    loader = make_map_loader()
    for _ in range(2):
        recorder = Recorder()
        make_trainer(DataAgent(ratio=0.5), loader=loader, callbacks=[recorder], epochs=2).fit()
        assert [len(set(ids)) for ids in recorder.by_epoch()] == [NUM_SAMPLES, HALF]


class Orders(Callback):
    """The ids of all batches, by epoch and batch."""

    def __init__(self) -> None:
        self.batches: dict[tuple[int, int], list[int]] = {}

    def batch_start(self, state: Any, logger: Any) -> None:
        at = int(state.timestamp.epoch), int(state.timestamp.batch_in_epoch)
        assert at not in self.batches
        self.batches[at] = state.train_dataloader.sample_ids.tolist()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 13, 16, 20])
def test_a_second_fit_goes_on(make_trainer: Any, workers: int, stop: int) -> None:
    """Wherever the first one stopped: inside an epoch, or at the end of one."""
    runs = []
    for stops in ([27], [stop, 27 - stop]):
        orders = Orders()
        trainer = make_trainer(
            DataAgent(ratio=0.5, selector="random"),  # whose choice depends on no learning rate
            loader=make_map_loader(num_workers=workers, persistent_workers=workers > 0),
            callbacks=[orders],
            max_duration=f"{stops[0]}ba",
        )
        trainer.fit()
        for batches in stops[1:]:
            trainer.fit(duration=f"{batches}ba")
        runs.append(orders.batches)
    assert runs[0] == runs[1]
    assert list(runs[0]) == [(0, b) for b in range(13)] + [(e, b) for e in (1, 2) for b in range(7)]


def test_the_report_has_pictures_and_evaluation_its_own_loader(
    make_trainer: Any, run_dir: str
) -> None:
    loader = make_map_loader()
    evaluation = DataLoader(loader.dataset, batch_size=64)
    make_trainer(DataAgent(run_dir=run_dir), loader=loader, eval_dataloader=evaluation).fit()
    run = read_run(run_dir)
    assert [row["selected"] for row in run.rows] == [NUM_SAMPLES, HALF, HALF]
    assert all("eval/MulticlassAccuracy" in row["metrics"] for row in run.rows)
    shown = {i for ids in choose_samples(run.ledger).values() for i in ids}
    pictures = {int(path.stem) for path in Path(run_dir).rglob("*.png")}
    assert pictures == shown and len(shown) >= 24


def test_a_sampler_with_a_selection_of_its_own(make_trainer: Any) -> None:
    sampler = WeightedRandomSampler([1.0] * NUM_SAMPLES, NUM_SAMPLES)
    trainer = make_trainer(DataAgent(), loader=make_map_loader(sampler=sampler, shuffle=None))
    with pytest.raises(ValueError, match=r"sampler=WeightedRandomSampler.*shuffle=True"):
        trainer.fit()


def test_evaluating_on_the_training_loader_itself(make_trainer: Any) -> None:
    loader = make_map_loader()
    trainer = make_trainer(DataAgent(), loader=loader, eval_dataloader=loader)
    with pytest.raises(RuntimeError, match=r"Give evaluators a DataLoader of their own"):
        trainer.fit()


# ---------------------------------------------------------------------- killed and resumed

FIRST, PRUNED = 13, 7
SETTINGS: dict[str, dict[str, Any]] = {
    "random": {},
    "distributed": {"distributed": ONE_RANK},
    "workers": {"num_workers": 2, "persistent_workers": True},
    "dropout": {},
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    outcomes: dict[str, killable_run.Outcome] = {}

    def get(name: str) -> killable_run.Outcome:
        if name not in outcomes:
            outcomes[name] = run(name, tmp_path_factory.mktemp(f"whole-{name}"))
            assert outcomes[name].exit_code == 0
            assert len(outcomes[name].batches) == FIRST + 2 * PRUNED
        return outcomes[name]

    return get


def run(name: str, folder: Path, **arguments: Any) -> killable_run.Outcome:
    loader = {"map_style": True, **SETTINGS[name]}
    dropout = 0.3 if name == "dropout" else 0.0
    return killable_run.run("", folder, loader=loader, dropout=dropout, **arguments)


@pytest.mark.parametrize(
    ("name", "save_interval", "kill_after"),
    [
        ("random", "1ba", 2),
        pytest.param("random", "1ba", FIRST, marks=pytest.mark.grid),
        ("random", *saved_before(FIRST + 1)),  # from the first epoch's last batch or its end
        ("random", *saved_before(FIRST + 4)),
        ("random", "1ep", FIRST + 3),
        ("distributed", *saved_before(FIRST + 4)),
        ("distributed", "1ep", FIRST + PRUNED + 2),
        ("workers", *saved_before(FIRST + 4)),
        pytest.param("workers", "1ep", FIRST + 3, marks=pytest.mark.grid),
        ("dropout", *saved_before(FIRST + 4)),
        pytest.param("dropout", "1ep", FIRST + 4, marks=pytest.mark.grid),
    ],
)
def test_killed_and_resumed_equals_uninterrupted(
    tmp_path: Path, uninterrupted: Any, name: str, save_interval: str, kill_after: int
) -> None:
    whole = uninterrupted(name)
    folder = tmp_path / "run"
    killed = run(name, folder, save_interval=save_interval, kill_after=kill_after)
    assert killed.exit_code == -signal.SIGKILL and killed.final is None
    resumed = run(name, folder, save_interval=save_interval)
    assert resumed.exit_code == 0
    assert resumed.batches == whole.batches
    assert_same(resumed.final, whole.final)


def test_pruned_epochs_differ_from_each_other(uninterrupted: Any) -> None:
    """Guards the test above: a selection that never changes would make it easy."""
    batches = uninterrupted("random").batches
    second, third = (
        set(chain(*(batches[b] for b in range(start, start + PRUNED))))
        for start in (FIRST, FIRST + PRUNED)
    )
    assert len(second) == len(third) == HALF and second != third


# ---------------------------------------------------------------------- several ranks


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    checkpoints = str(folder / "checkpoints")
    results = run_ranks(folder / "whole", save_folder=checkpoints, save_interval="1ep")
    assert all(isinstance(result, dict) for result in results), results
    return folder / "checkpoints", results


def ids_of(result: Any, epoch: int) -> list[list[int]]:
    return [ids for at, ids in result["batches"] if at == epoch]


def test_two_ranks_serve_the_selection_together(two_ranks: Any) -> None:
    _, results = two_ranks
    for epoch, size in enumerate([NUM_SAMPLES, HALF, HALF]):
        first, second = (ids_of(result, epoch) for result in results)
        assert [len(ids) for ids in first] == [len(ids) for ids in second]
        ids = list(chain(*first, *second))
        assert len(set(ids)) == size and len(ids) == size + size % 2
        if epoch == 0:
            assert set(ids) == set(range(NUM_SAMPLES))
    first, second = ({**result, "batches": None} for result in results)
    assert_same(first, second)
    assert (results[0]["ledger"]["visits"].numpy() >= 1).all()


def test_two_ranks_serve_everything_as_a_distributed_sampler_does(two_ranks: Any) -> None:
    _, results = two_ranks
    for rank, result in enumerate(results):
        loader = make_map_loader(distributed={"num_replicas": 2, "rank": rank, "seed": 3})
        sampler: Any = loader.sampler
        sampler.set_epoch(0)
        assert list(chain(*ids_of(result, 0))) == list(sampler)


def test_two_ranks_resume_from_an_epochs_end(two_ranks: Any, tmp_path: Path) -> None:
    checkpoints, whole = two_ranks
    load_path = str(checkpoints / "ep1-ba13-rank0.pt")
    for expected, resumed in zip(
        whole, run_ranks(tmp_path / "resumed", load_path=load_path), strict=True
    ):
        assert resumed["batches"] == [batch for batch in expected["batches"] if batch[0] > 0]
        assert_same({**resumed, "batches": None}, {**expected, "batches": None})


def test_two_ranks_with_a_sampler_for_another_number_of_ranks(tmp_path: Path) -> None:
    distributed = {"num_replicas": 1, "rank": 0}
    for result in run_ranks(tmp_path / "run", loader={"distributed": distributed}):
        assert "deals the samples to 1 ranks, but there are 2" in result


def test_sizes_are_as_these_tests_assume() -> None:
    assert round(0.5 * NUM_SAMPLES + 0.01) == HALF
    assert -(-NUM_SAMPLES // 16) == FIRST and -(-HALF // 16) == PRUNED
    assert np.ceil(NUM_SAMPLES / 2 / 8) == FIRST
