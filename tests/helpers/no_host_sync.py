# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A mode that fails where a GPU's host would have to wait, so that a CPU can test for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class NoHostSync(TorchDispatchMode):
    """Refuses operations whose result or shape the host has to wait for on a GPU."""

    REFUSED = ("_local_scalar_dense", "nonzero", "equal.default", "masked_select", "unique")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = str(func)
        waits = any(refused in name for refused in self.REFUSED)
        if name.startswith("aten.index"):  # x[mask] asks how many entries are true
            indices = args[1] if isinstance(args[1], list | tuple) else ()
            waits |= any(isinstance(i, Tensor) and i.dtype == torch.bool for i in indices)
        assert not waits, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def no_host_sync() -> Callable[[], AbstractContextManager[Any]]:
    """The mode, after a check that it works. A suite's conftest.py imports it."""
    x = torch.ones(2)
    for waits in (lambda: x[0].item(), lambda: x[x > 0], lambda: bool((x > 0).all())):
        with pytest.raises(AssertionError, match="waits"), NoHostSync():
            waits()
    return NoHostSync
