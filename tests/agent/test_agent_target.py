# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent wants, by what the model makes of the labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from composer_dataagent.agent import choose_target, expectedness, ranked_by, worth
from composer_dataagent.selection import quick_rank01


@pytest.mark.parametrize(
    ("label_trust", "plausibility", "progress", "expected"),
    [
        (0.0, 1.0, 0.0, "entropy"),  # nothing is known yet
        (0.79, 0.4, 0.29, "entropy"),  # the model is young
        (0.79, 0.4, 0.3, "agreeing"),  # the labels are its second choice: systematic errors
        (0.79, 0.2, 0.3, "entropy"),  # they are improbable: errors at random
        (0.8, 0.4, 0.1, "composite"),
        (0.8, 0.2, 0.9, "composite"),
    ],
)
def test_labels_count_once_most_are_predicted_or_it_is_late(
    label_trust: float, plausibility: float, progress: float, expected: str
) -> None:
    chosen = choose_target(label_trust, plausibility, False, progress, trust=0.8, patience=0.3)
    assert chosen == expected


def test_with_many_wrong_labels_large_losses_are_not_wanted() -> None:
    assert choose_target(0.9, 0.1, True, 0.5, trust=0.8, patience=0.3) == "entropy"
    assert choose_target(0.7, 0.4, True, 0.5, trust=0.8, patience=0.3) == "agreeing"


def test_without_trust_labels_always_count() -> None:
    assert choose_target(0.0, 0.1, False, 0.0, trust=0.0, patience=0.3) == "composite"


def test_of_sequences_the_expected_ones_are_wanted_unless_they_are_trusted() -> None:
    for progress in (0.0, 0.9):
        of = {"progress": progress, "patience": 0.3, "sequences": True}
        assert choose_target(1.0, 1.0, False, trust=0.8, **of) == "expected"
        assert choose_target(1.0, 1.0, False, trust=0.0, **of) == "composite"


def test_a_sequence_is_expected_by_the_loss_beyond_its_entropy() -> None:
    loss, entropy = np.array([2.0, 3.0, 3.0, 200.0]), np.array([2.0, 3.5, 2.5, 200.0])
    found = expectedness(loss, np.exp(-entropy))
    assert found[:3] == pytest.approx([0, 0.5, -0.5]) and np.isfinite(found).all()


@pytest.mark.parametrize("count", [3, 1 << 20])
def test_a_sequence_without_a_token_to_learn_from_comes_last(count: int) -> None:
    loss, entropy = np.linspace(3, 4, count, dtype=np.float32), np.full(count, 2.0, np.float32)
    loss[1] = entropy[1] = 0
    found = quick_rank01(expectedness(loss, np.exp(-entropy)))
    assert found.argmin() == 1 and found.max() == found[0] == pytest.approx(1, abs=1e-3)


def test_worth_of_each_target() -> None:
    composite = torch.tensor([0.1, 0.9, 0.5])
    ranks = torch.tensor([0.5, 0.0, 1.0])
    agreement = torch.tensor([1.0, 1.0, 0.1])
    columns = (composite, ranks, agreement)
    assert worth("composite", *columns) is composite
    assert worth("entropy", *columns) is ranks
    assert worth("expected", *columns) is ranks
    torch.testing.assert_close(worth("agreeing", *columns), torch.tensor([0.5, 0.0, 0.1]))


def test_what_each_target_ranks_by() -> None:
    loss, entropy, max_prob = np.array([2.0, 3.0]), np.array([0.1, 0.4]), np.array([0.5, 0.1])
    columns = (loss, entropy, max_prob)
    for target in ("composite", "entropy", "agreeing"):
        assert ranked_by(target, *columns) is entropy
    found = ranked_by("expected", *columns)
    np.testing.assert_array_equal(found, expectedness(loss, max_prob))
