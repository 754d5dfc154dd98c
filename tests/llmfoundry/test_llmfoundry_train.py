# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``llmfoundry train`` with ``data_agent`` in its YAML: whole, killed and gone on with."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llmfoundry_runs import (
    GLOBAL_BATCH,
    MPT,
    Inputs,
    Outcome,
    gpt2,
    lines_loader,
    prompts_loader,
    recipe,
    text_loader,
    train,
)
from same_states import assert_same

from composer_dataagent.report import read_run


@dataclass(frozen=True)
class Kind:
    """A model and its data.

    Attributes:
        model: Its settings.
        loader: Its loader's settings, for the folder of a run.
        kills: After which batches a run is killed, before they are saved.
        agent: Further settings of ``data_agent``.
    """

    model: Callable[[Inputs], dict[str, Any]]
    loader: Callable[[Inputs, Path], dict[str, Any]]
    kills: tuple[int, ...]
    agent: dict[str, Any] = field(default_factory=dict)


KINDS = {
    "mpt, text": Kind(lambda _: MPT, lambda inputs, _: text_loader(inputs), (8, 16)),
    "mpt, prompts": Kind(lambda _: MPT, prompts_loader, (5, 13), {"state": "both"}),
    "gpt2, prompts": Kind(gpt2, prompts_loader, (13,), {"selector": {"name": "infobatch"}}),
    "mpt, prompts of a Hugging Face data set": Kind(
        lambda _: MPT, lambda inputs, _: lines_loader(inputs), (13,)
    ),
}


def settings_of(kind: Kind, inputs: Inputs, folder: Path) -> dict[str, Any]:
    settings = recipe(inputs, folder, kind.model(inputs), kind.loader(inputs, folder))
    settings["algorithms"]["data_agent"] |= kind.agent
    return settings


@pytest.fixture(scope="session")
def whole(
    inputs: Inputs, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Outcome, Path]]:
    """Uninterrupted runs."""
    known: dict[str, tuple[Outcome, Path]] = {}

    def run(name: str) -> tuple[Outcome, Path]:
        if name not in known:
            folder = tmp_path_factory.mktemp("whole")
            known[name] = train(settings_of(KINDS[name], inputs, folder), folder), folder
            assert known[name][0].exit_code == 0, known[name][0].output
        return known[name]

    return run


@pytest.mark.parametrize("name", KINDS)
def test_serves_what_was_selected_and_half_of_it(
    whole: Callable[[str], tuple[Outcome, Path]], name: str
) -> None:
    outcome, folder = whole(name)
    run = read_run(folder / "history")
    size = run.rows[0]["selected"]
    assert [row["selected"] for row in run.rows] == [size, ceil(size / 2), ceil(size / 2)]
    first, visits = 0, np.zeros(size, int)
    for row in run.rows:
        ids = [i for batch in range(first, row["batches"]) for i in outcome.batches[batch]]
        assert len(ids) == len(set(ids)) == row["selected"]
        assert row["batches"] - first == ceil(row["selected"] / GLOBAL_BATCH)
        first = row["batches"]
        visits[ids] += 1
    ledger = np.load(folder / "history" / "ledger.npz")
    np.testing.assert_array_equal(ledger["visits"], visits)
    assert sum(map(len, outcome.batches.values())) == run.rows[-1]["samples_seen"] == visits.sum()


@pytest.mark.parametrize("name", KINDS)
def test_a_killed_run_goes_on_exactly(
    whole: Callable[[str], tuple[Outcome, Path]], inputs: Inputs, tmp_path: Path, name: str
) -> None:
    expected, _ = whole(name)
    settings = settings_of(KINDS[name], inputs, tmp_path)
    for batch in KINDS[name].kills:
        killed = train(settings, tmp_path, kill_after=batch)
        assert killed.exit_code == -signal.SIGKILL, killed.output
    outcome = train(settings, tmp_path)
    assert outcome.exit_code == 0, outcome.output
    assert_ended_alike(outcome, expected)


PARALLEL: dict[str, dict[str, Any]] = {
    "DDP": {},
    "FSDP": {"fsdp_config": {"sharding_strategy": "FULL_SHARD", "mixed_precision": "PURE"}},
}


@pytest.mark.parametrize("parallel", PARALLEL)
def test_two_ranks_share_its_batches_and_go_on_exactly(
    whole: Callable[[str], tuple[Outcome, Path]], inputs: Inputs, tmp_path: Path, parallel: str
) -> None:
    of_one, _ = whole("mpt, text")

    def settings_in(folder: Path) -> dict[str, Any]:
        return settings_of(KINDS["mpt, text"], inputs, folder) | PARALLEL[parallel]

    expected = train(settings_in(tmp_path / "a"), tmp_path / "a", ranks=2)
    assert expected.exit_code == 0, expected.output
    assert expected.batches.keys() == of_one.batches.keys()
    for batch in range(ceil(len(of_one.batches) / 2)):  # the first epoch's
        assert sorted(expected.batches[batch]) == sorted(of_one.batches[batch])
    settings = settings_in(tmp_path / "b")
    assert train(settings, tmp_path / "b", ranks=2, kill_after=16).exit_code != 0
    outcome = train(settings, tmp_path / "b", ranks=2)
    assert outcome.exit_code == 0, outcome.output
    assert_ended_alike(outcome, expected)


def assert_ended_alike(outcome: Outcome, expected: Outcome) -> None:
    assert outcome.batches == expected.batches
    for part in ("model", "optimizers", "schedulers", "dataset_state"):
        assert_same(outcome.final[part], expected.final[part], part)
    assert_same(agent_of(outcome), agent_of(expected), "agent")


def agent_of(outcome: Outcome) -> dict[str, Any]:
    (agent,) = (state for name, state in outcome.final["algorithms"] if name == "DataAgent")
    return {part: agent[part] for part in ("ledger", "selection", "learner", "flagged", "fit")}
