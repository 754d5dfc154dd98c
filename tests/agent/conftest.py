# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests of the agent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from no_host_sync import no_host_sync as no_host_sync


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The agent's tensors are tiny; threads would only get in each other's way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def global_rng_untouched() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)
