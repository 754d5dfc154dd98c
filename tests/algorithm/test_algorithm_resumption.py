# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A killed run that resumes ends exactly where the uninterrupted one ends."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import killable_run
import pytest
from digits_run import Recorder, weights_of
from killable_run import saved_before
from same_states import assert_same

from composer_dataagent import DataAgent

# Batches of 16: 13 in the full first epoch, 7 in each pruned one.
FIRST, PRUNED = 13, 7
TOTAL = FIRST + 2 * PRUNED
# In three rounds an epoch: the first of all is full, 67 or 68 samples, and the others half of that.
ROUND, ROUND_TOTAL = 5, 5 + 8 * 3


SETTINGS: dict[str, dict[str, Any]] = {
    "signals": {},
    "fallback": {"selector": {"name": "data_agent", "min_fit": 1.0}},
    "features": {"state": "features"},
    "paper": {"preset": "paper"},
    "infobatch": {"selector": "infobatch"},
    "egress": {"selector": {"name": "data_agent", "egress_weight": 0.3}},
    "ucb": {"selector": "ucb"},
    "workers": {"loader": {"num_workers": 2, "persistent_workers": True}},
    "rounds": {"interval": "0.334ep", "state": "both"},
    "rounds, look": {"interval": "0.334ep", "look": True, "dropout": 0.3},
    "dropout": {"dropout": 0.3},
    "dropout, workers": {
        "dropout": 0.3,
        "loader": {"num_workers": 2, "persistent_workers": True},
    },
}


@pytest.fixture(scope="session")
def uninterrupted(shards: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    outcomes: dict[str, killable_run.Outcome] = {}

    def get(name: str) -> killable_run.Outcome:
        if name not in outcomes:
            folder = tmp_path_factory.mktemp(f"whole-{name}")
            outcomes[name] = killable_run.run(shards, folder, **SETTINGS[name])
            assert outcomes[name].exit_code == 0
            total = ROUND_TOTAL if "interval" in SETTINGS[name] else TOTAL
            assert len(outcomes[name].batches) == total
        return outcomes[name]

    return get


@pytest.mark.parametrize(
    ("name", "save_interval", "kill_after"),
    [
        # in the middle of epochs, and around their ends; the first one saves every batch
        ("signals", "1ba", 2),
        ("signals", *saved_before(FIRST - 1)),
        ("signals", *saved_before(FIRST)),
        ("signals", *saved_before(FIRST + 1)),  # from the first epoch's last batch or its end
        pytest.param("signals", "1ba", FIRST + 3, marks=pytest.mark.grid),
        ("signals", *saved_before(FIRST + PRUNED + 1)),
        ("signals", *saved_before(TOTAL)),
        pytest.param("signals", "3ba", FIRST + 5, marks=pytest.mark.grid),
        # epoch ends only
        ("signals", "1ep", FIRST + 2),
        pytest.param("signals", "1ep", FIRST + PRUNED + 3, marks=pytest.mark.grid),
        ("signals", "1ep", -(FIRST + PRUNED)),
        ("egress", *saved_before(FIRST + PRUNED + 1)),
        # some batches saved: the last ones before the end are trained again
        ("rounds", *saved_before(ROUND)),
        ("rounds", *saved_before(ROUND + 1)),
        ("rounds", "3ba", ROUND + 6),
        ("rounds, look", *saved_before(ROUND + 4)),
        ("rounds, look", "3ba", ROUND + 14),
        pytest.param("workers", "1ba", FIRST + 3, marks=pytest.mark.grid),
        pytest.param("workers", "1ep", FIRST + 3, marks=pytest.mark.grid),
        pytest.param("dropout", "1ba", FIRST + 1, marks=pytest.mark.grid),
        ("dropout", *saved_before(FIRST + 4)),
        pytest.param("dropout", "1ep", FIRST + 4, marks=pytest.mark.grid),
        ("dropout, workers", *saved_before(FIRST + 4)),
        ("dropout, workers", "1ep", FIRST + 4),
    ],
)
def test_killed_and_resumed_equals_uninterrupted(
    shards: str,
    tmp_path: Path,
    uninterrupted: Any,
    name: str,
    save_interval: str,
    kill_after: int,
) -> None:
    whole = uninterrupted(name)
    arguments = {"save_interval": save_interval, **SETTINGS[name]}
    killed = killable_run.run(shards, tmp_path / "run", kill_after=kill_after, **arguments)
    assert killed.exit_code == -signal.SIGKILL and killed.final is None
    assert len(killed.batches) == abs(kill_after)
    resumed = killable_run.run(shards, tmp_path / "run", **arguments)
    assert resumed.exit_code == 0
    assert resumed.batches == whole.batches  # same samples, same order, same batches
    assert whole.final is not None
    assert_same(resumed.final, whole.final)


def test_killed_three_times(shards: str, tmp_path: Path, uninterrupted: Any) -> None:
    whole = uninterrupted("signals")
    for kill_after in (4, FIRST + 2, FIRST + PRUNED + 5):
        killed = killable_run.run(
            shards, tmp_path / "run", save_interval="1ba", kill_after=kill_after
        )
        assert killed.exit_code == -signal.SIGKILL
    resumed = killable_run.run(shards, tmp_path / "run")
    assert resumed.batches == whole.batches
    assert whole.final is not None
    assert_same(resumed.final, whole.final)


@pytest.mark.parametrize("name", ["fallback", "features", "paper", "infobatch", "ucb"])
def test_resumed_in_the_same_process_equals_uninterrupted(
    make_trainer: Any, tmp_path: Path, name: str
) -> None:
    """Other agents, of which a kill is to leave no more than a checkpoint either."""

    def run(**trainer: Any) -> tuple[list[list[int]], Any, Any]:
        recorder = Recorder()
        agent = DataAgent(**{"ratio": 0.5, "update_interval": 4, **SETTINGS[name]})
        made = make_trainer(agent, callbacks=[recorder], **trainer)
        made.fit()
        return [ids for _, ids in recorder.ids], agent.state_dict(), weights_of(made)

    whole = run(save_folder=str(tmp_path), save_interval="3ba")
    resumed = run(load_path=str(tmp_path / f"ep1-ba{FIRST + 2}-rank0.pt"))
    assert len(whole[0]) == TOTAL and resumed[0] == whole[0][FIRST + 2 :]
    assert_same(resumed[1:], whole[1:])


def test_pruned_epochs_differ_from_each_other(uninterrupted: Any) -> None:
    """Guards the tests above: a selection that never changes would make them easy."""
    batches = uninterrupted("signals").batches
    second = {i for b in range(FIRST, FIRST + PRUNED) for i in batches[b]}
    third = {i for b in range(FIRST + PRUNED, TOTAL) for i in batches[b]}
    assert len(second) == len(third) == 102 and second != third
