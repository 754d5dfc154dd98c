# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""How well the agent knows what it is rewarded for."""

from __future__ import annotations

import numpy as np
import pytest

from composer_dataagent.agent import fit


def test_it_is_a_correlation() -> None:
    rng = np.random.default_rng(0)
    aim, noise = rng.random((2, 500), dtype=np.float32)
    assert fit(0.5 + 1e-4 * aim, aim) == pytest.approx(1, abs=1e-3)  # however timid
    assert fit(-aim, aim) == pytest.approx(-1)
    assert abs(fit(noise, aim)) < 0.15
    assert fit(aim + noise, aim) == pytest.approx(np.corrcoef(aim + noise, aim)[0, 1])


def test_what_does_not_vary_fits_nothing() -> None:
    aim = np.arange(4, dtype=np.float32)
    assert fit(np.full(4, 0.5), aim) == fit(aim, np.zeros(4)) == 0
    assert fit(aim[:1], aim[:1]) == fit(aim[:0], aim[:0]) == 0
