# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What all tests share: no time limits, and no shared memory left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from streaming_memory import released_shared_memory

# A busy machine is not a broken law.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def shared_memory() -> Iterator[None]:
    with released_shared_memory():
        yield
