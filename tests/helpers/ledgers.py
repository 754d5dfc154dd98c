# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Ledgers to select from: one of known columns, and any that training could leave behind."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from composer_dataagent.selection import Ledger

CLASSES = 4


def make_ledger(num_samples: int, unseen: int = 0, seed: int = 0, **columns: Any) -> Ledger:
    """All but the first ``unseen`` samples were seen in epoch 0; loss, entropy and score differ.

    Args:
        num_samples: Its size ``N``.
        unseen: How many were never seen.
        seed: Of the columns that are not given.
        **columns: ``[N]`` arrays for :meth:`Ledger.record`.
    """
    rng = np.random.default_rng(seed)
    ledger = Ledger(num_samples)
    ledger.score = np.full(num_samples, np.nan, np.float32)
    visit = {
        "loss": rng.exponential(size=num_samples),
        "entropy": rng.random(num_samples),
        "score": rng.random(num_samples),
        **columns,
    }
    ids = np.arange(unseen, num_samples)
    ledger.record(ids, 0, **{name: np.asarray(column)[ids] for name, column in visit.items()})
    return ledger


@st.composite
def any_ledger(draw: st.DrawFn) -> Ledger:
    """A ledger after up to three epochs that saw any samples and any numbers."""
    count = draw(st.integers(1, 30))
    ledger = Ledger(count)
    ledger.score = np.full(count, np.nan, np.float32)
    number = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.5, np.nan, np.inf, -np.inf])
    unit = st.floats(0, 1, width=32)
    for epoch in range(draw(st.integers(0, 3))):
        ids = np.flatnonzero(draw(arrays(bool, count)))
        ledger.record(
            ids,
            epoch,
            loss=draw(arrays(np.float32, len(ids), elements=number)),
            entropy=draw(arrays(np.float32, len(ids), elements=unit | st.just(np.nan))),
            agreement=draw(arrays(np.float32, len(ids), elements=unit)),
            label=draw(arrays(np.int32, len(ids), elements=st.integers(-1, CLASSES - 1))),
            score=draw(arrays(np.float32, len(ids), elements=number)),
        )
    ledger.refresh_flags()
    return ledger
