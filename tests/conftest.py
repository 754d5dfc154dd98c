# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What all tests share: no time limits, no shared memory left behind, and a lone rank."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist
from hypothesis import settings
from streaming_memory import released_shared_memory

# A busy machine is not a broken law.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def shared_memory() -> Iterator[None]:
    with released_shared_memory():
        yield


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone; a test that trained a recipe has left one."""
    if dist.is_initialized():
        assert dist.get_world_size() == 1
        yield
        return
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()
