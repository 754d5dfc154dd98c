# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""An agent that knows when not to trust labels does not amplify systematic errors."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from digits_run import Recorder, build_trainer, make_model
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from composer_dataagent import DataAgent

IMAGES, LABELS = map(np.asarray, load_digits(return_X_y=True))
X = torch.from_numpy((IMAGES / 16).astype(np.float32))


def train(labels: np.ndarray, **selector: Any) -> tuple[DataAgent, list[list[int]]]:
    """Eight epochs on these labels; the agent, and the ids of each epoch."""
    loader = DataLoader(TensorDataset(X, torch.from_numpy(labels)), batch_size=32, shuffle=True)
    agent = DataAgent(ratio=0.5, selector={"name": "data_agent", **selector})
    recorder = Recorder()
    build_trainer(loader, agent, model=make_model(), epochs=8, callbacks=[recorder]).fit()
    return agent, recorder.by_epoch()


@pytest.fixture(scope="module")
def wrong() -> np.ndarray:
    """40 % of the samples, which bear the label of the next class."""
    return np.random.default_rng(0).permutation(len(LABELS)) < 0.4 * len(LABELS)


def test_systematic_label_errors_are_not_amplified(
    wrong: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    noisy = np.where(wrong, (LABELS + 1) % 10, LABELS)
    with caplog.at_level(logging.INFO, "composer_dataagent"):
        guarded, epochs = train(noisy)
    assert guarded.ledger.label_trust < 0.75
    assert "hard and uncertain samples" not in caplog.text
    assert "% of the labels; now the agent wants uncertain samples, all the more" in caplog.text
    share = np.mean([wrong[ids].mean() for ids in epochs[4:]])
    _, epochs = train(noisy, trust=0.0)
    amplified = np.mean([wrong[ids].mean() for ids in epochs[4:]])
    assert share - wrong.mean() < 0.02 < 0.03 < amplified - wrong.mean()


def test_right_labels_are_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "composer_dataagent"):
        agent, _ = train(LABELS)
    assert agent.ledger.label_trust > 0.9
    assert "% of the labels; now the agent wants hard and uncertain samples" in caplog.text


def test_errors_at_random_are_held_back_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    wrong = rng.permutation(len(LABELS)) < 0.15 * len(LABELS)
    noisy = np.where(wrong, (LABELS + rng.integers(1, 10, len(LABELS))) % 10, LABELS)
    with caplog.at_level(logging.INFO, "composer_dataagent"):
        agent, epochs = train(noisy)
    # Most labels are predicted, but now that the wrong ones stand out, large losses are not wanted.
    assert agent.ledger.label_trust > 0.75 and agent.ledger.flag_share > 0.06
    assert wrong[agent.ledger.flagged].mean() > 0.9
    wants = [m.split("the agent wants ")[1] for m in caplog.messages if "agent wants" in m]
    assert wants[-1] == "uncertain samples, whatever their labels"
    _, ungated = train(noisy, gate=0.0)
    assert wrong[epochs[-1]].mean() < wrong.mean() < wrong[ungated[-1]].mean() - 0.05


def test_an_agent_that_has_not_learned_is_not_followed(caplog: pytest.LogCaptureFixture) -> None:
    def last_selection(**arguments: Any) -> list[int]:
        loader = DataLoader(TensorDataset(X, torch.from_numpy(LABELS)), batch_size=32)
        agent = DataAgent(ratio=0.5, **arguments)
        recorder = Recorder()
        build_trainer(loader, agent, model=make_model(), epochs=2, callbacks=[recorder]).fit()
        return sorted(recorder.by_epoch()[-1])

    plain = {"name": "data_agent", "class_floor": 0.0}
    with caplog.at_level(logging.INFO, "composer_dataagent"):
        # Nobody foresees all of it.
        fallen_back = last_selection(selector=plain | {"min_fit": 1.0})
    assert "has not learned yet" in caplog.text
    assert fallen_back == last_selection(selector={"name": "entropy", "explore": 8.0})
    caplog.clear()
    with caplog.at_level(logging.INFO, "composer_dataagent"):
        followed = last_selection(selector=plain | {"min_fit": -1.0})
    assert "has not learned yet" not in caplog.text
    assert followed != fallen_back
