# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that stream real shards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mds_samples import write_shards
from object_store import ObjectStore, object_store


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shards that no test may change."""
    return write_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="session")
def running_store() -> Iterator[ObjectStore]:
    with object_store() as store:
        yield store


@pytest.fixture
def store(running_store: ObjectStore) -> Iterator[ObjectStore]:
    """An object store without faults."""
    running_store.mend()
    yield running_store
    running_store.mend()


@pytest.fixture(scope="session")
def remotes(running_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """URLs of the same samples, as shards of different kinds; no test may change the objects."""
    folder = tmp_path_factory.mktemp("remotes")
    kinds = {
        "plain": {},
        "hashed": {"hashes": ["sha1"]},
        "zipped": {"compression": "zstd"},
        "zipped and hashed": {"compression": "zstd", "hashes": ["sha1"]},
    }
    return {
        kind: running_store.upload(write_shards(folder / kind, **writer), kind.replace(" ", "-"))
        for kind, writer in kinds.items()
    }
