# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A run tells which labels are probably wrong, and what they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from composer.algorithms import MixUp
from composer.core import Algorithm
from digits_run import build_trainer, make_model
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from composer_dataagent import DataAgent
from composer_dataagent.report import Run, read_run
from composer_dataagent.report.examples import MISLABELLED, choose_samples
from composer_dataagent.report.suspects import list_suspects

IMAGES, LABELS = map(np.asarray, load_digits(return_X_y=True))
X = torch.from_numpy((IMAGES / 16).astype(np.float32))
RNG = np.random.default_rng(0)
WRONG = RNG.permutation(len(LABELS)) < 0.15 * len(LABELS)
NOISY = np.where(WRONG, (LABELS + RNG.integers(1, 10, len(LABELS))) % 10, LABELS)


def train(folder: Path, selector: str, *algorithms: Algorithm) -> Run:
    loader = DataLoader(TensorDataset(X, torch.from_numpy(NOISY)), batch_size=32, shuffle=True)
    agent = DataAgent(0.5, selector=selector, run_dir=str(folder))
    build_trainer(loader, [agent, *algorithms], model=make_model(), epochs=8).fit()
    return read_run(folder)


@pytest.mark.parametrize("selector", ["data_agent", "full", "random"])
def test_wrong_labels_are_listed_with_the_right_ones(tmp_path: Path, selector: str) -> None:
    run = train(tmp_path, selector)
    listed = list_suspects(run)
    ids = np.array([row["sample_id"] for row in listed])
    assert len(ids) > 0.4 * WRONG.sum()
    assert WRONG[ids].mean() > 0.9 and WRONG[ids[:100]].mean() > 0.95
    found = ids[WRONG[ids]]
    assert (run.ledger["predicted"][found] == LABELS[found]).mean() > 0.9
    assert [row["label"] for row in listed] == NOISY[ids].tolist()
    # What can be shown of the first ones is kept, for the report.
    assert set(choose_samples(run.ledger)[MISLABELLED]) == set(ids[:24]) <= set(run.samples)


def test_the_predicted_class_is_that_of_the_largest_probability(tmp_path: Path) -> None:
    ledger = train(tmp_path, "random").ledger
    agrees = ledger["predicted"] == ledger["label"]
    gap = ledger["loss"] + np.log(ledger["max_prob"])  # log(max p / p of the label)
    np.testing.assert_array_equal(agrees, gap < 1e-5)
    assert 0.1 < 1 - agrees.mean() < 0.4


def test_mixed_samples_have_no_class_that_is_predicted(tmp_path: Path) -> None:
    run = train(tmp_path, "random", MixUp(alpha=0.2))
    assert (run.ledger["predicted"] == -1).all()
    assert all(row["predicted"] is row["predicted_name"] is None for row in list_suspects(run))
