# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where Composer's algorithms can be seen, this one can: in State, in checkpoints, as a repr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from composer_dataagent import DataAgent
from composer_dataagent.selection import RatioSchedule, selectors
from composer_dataagent.signals import Signals, classification_signals


def my_schedule(epoch: int, progress: float) -> float:
    return 1.0 if epoch == 0 else 0.5 + 0.1 * progress


def my_signals(outputs: Any, batch: Any) -> Signals:
    return classification_signals(outputs, batch[1])


NAMES = {**vars(selectors), **globals()}
ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"ratio": 0.3, "preset": "paper", "rescale": False, "seed": 7},
    {"selector": {"name": "data_agent", "explore": None}, "state": "both", "head": "fc"},
    {"selector": selectors.UCBSelector(decay=0.5)},
    {"selector": selectors.FullSelector(), "on_nonfinite": "raise"},
    {"schedule": my_schedule, "signals": my_signals},
    {"schedule": RatioSchedule(0.4, warmup_epochs=2), "class_names": ["no", "it's"]},
    {"fetch": "samples", "costs": {"dollars_per_gb": 0.05}},
    {"run_dir": "runs/a", "overwrite": True, "warmup_epochs": 0, "anneal": 0.1},
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_repr_is_constructor_style(arguments: dict[str, Any]) -> None:
    agent = DataAgent(**arguments)
    again = eval(repr(agent), NAMES)
    assert repr(again) == repr(agent) and " at 0x" not in repr(agent)
    private = {"selector", "schedule", "_arguments", "_nonfinite"}
    settings = [{k: v for k, v in vars(a).items() if k not in private} for a in (agent, again)]
    assert settings[0] == settings[1]
    assert vars(agent.selector) == vars(again.selector)
    assert type(agent.selector) is type(again.selector)
    assert agent.schedule == again.schedule


def test_a_function_without_a_name_has_no_address_in_the_repr() -> None:
    assert " at 0x" not in repr(DataAgent(schedule=lambda epoch, progress: 0.5))


def test_state_and_checkpoint_show_it(make_trainer: Any, tmp_path: Path) -> None:
    agent = DataAgent(ratio=0.5)
    trainer = make_trainer(agent, epochs=2, save_folder=str(tmp_path))
    assert trainer.state.algorithms == [agent]
    ((name, before),) = trainer.state.state_dict()["algorithms"]
    assert (name, before) == ("DataAgent", {"repr": repr(agent)})
    trainer.fit()
    ((name, after),) = trainer.state.state_dict()["algorithms"]
    assert name == "DataAgent" and after["repr"] == repr(agent)
    assert len(after["ledger"]["loss"]) == len(agent.ledger)

    saved = torch.load(tmp_path / "ep2-ba20-rank0.pt", weights_only=False)
    ((name, state),) = saved["state"]["algorithms"]
    assert name == "DataAgent" and state.keys() == after.keys()
    assert torch.equal(state["ledger"]["loss"], torch.from_numpy(agent.ledger.loss))
