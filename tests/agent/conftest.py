# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests of the agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode


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


class NoHostSync(TorchDispatchMode):
    """Refuses operations whose result or shape the host has to wait for on a GPU."""

    REFUSED = ("_local_scalar_dense", "nonzero", "equal.default", "masked_select", "unique")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = str(func)
        assert not any(refused in name for refused in self.REFUSED), f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def no_host_sync() -> Callable[[], AbstractContextManager[Any]]:
    with pytest.raises(AssertionError, match="waits"), NoHostSync():
        torch.ones(1).item()
    return NoHostSync
