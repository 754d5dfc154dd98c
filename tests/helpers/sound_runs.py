# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a run came to its end with nothing broken: agent, optimizer, ledger, rollouts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from composer import Trainer

from composer_dataagent import DataAgent


def assert_sound(trainer: Trainer, agent: DataAgent, unseen: int = 0) -> None:
    """All that the agent knows is finite, but for ``unseen`` samples; and training is done."""
    assert trainer.state.max_duration is not None
    assert trainer.state.timestamp >= trainer.state.max_duration
    ledger = agent.ledger
    assert (ledger.last_seen == -1).sum() == unseen
    seen = ledger.last_seen >= 0
    for name in ("loss", "entropy", "max_prob", "agreement"):
        assert np.isfinite(getattr(ledger, name)[seen]).all(), name
    if ledger.score is not None:
        assert np.isfinite(ledger.score[seen]).all()
    state = agent.state_dict()
    if state["learner"] is not None:
        tensors = list(_tensors(state["learner"]))
        assert tensors and all(tensor.isfinite().all() for tensor in tensors)


def _tensors(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from _tensors(value)
    elif isinstance(state, list):
        for value in state:
            yield from _tensors(value)
