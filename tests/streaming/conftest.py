# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that stream real shards."""

from __future__ import annotations

import pytest
from mds_samples import write_shards


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shards that no test may change."""
    return write_shards(tmp_path_factory.mktemp("shards"))
