# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the benchmark of ``max_tokens`` says of two columns."""

from __future__ import annotations

import numpy as np
import pytest
from bench_max_tokens import compared


def test_order_and_distance_are_told_apart() -> None:
    true = np.random.default_rng(0).normal(size=100)
    assert compared(true + 1, true) == {
        "error": pytest.approx(1),
        "correlation": pytest.approx(1),
        "half_kept": 1.0,
    }
    reverse = compared(-true, true)
    assert reverse["correlation"] == pytest.approx(-1) and reverse["half_kept"] == 0
