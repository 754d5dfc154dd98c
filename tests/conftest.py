# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What all tests share: no time limits, and no shared memory left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from streaming.base.util import clean_stale_shared_memory

# A busy machine is not a broken law.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def shared_memory() -> Iterator[None]:
    """Runs that tests kill leave streaming's shared memory behind."""
    clean_stale_shared_memory()
    yield
    clean_stale_shared_memory()
