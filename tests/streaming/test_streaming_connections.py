# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Forked workers do not talk over the connection that the index came over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from egress.server import loopback_store
from epoch_runs import Epoch, run_epochs
from mds_samples import NUM_SAMPLES, assert_exactly_once, write_shards


@pytest.mark.parametrize("persistent", [False, True], ids=["new workers", "persistent workers"])
def test_each_worker_has_its_own_connection(tmp_path: Path, persistent: bool) -> None:
    write_shards(tmp_path / "objects" / "shards")
    # It keeps connections open, as stores do, and is late, so that both workers ask at once.
    with loopback_store(tmp_path / "objects") as store:
        store.throttle(latency=0.1)
        arguments: dict[str, Any] = {
            "remote": store.url("shards"),
            "local": str(tmp_path / "local"),
            "download_timeout": 3,
        }
        ((*outcomes,),) = run_epochs(
            Epoch(range(NUM_SAMPLES)),
            Epoch(range(NUM_SAMPLES)),
            dataset=arguments,
            environment=store.environment,
            num_workers=2,
            persistent_workers=persistent,
        )
        connections = store.connections()
    for outcome in outcomes:
        assert outcome.error == ""
        assert_exactly_once(outcome.batches, range(NUM_SAMPLES))
    # That of the index, and one for each worker; all shards are there before the second epoch.
    assert connections == 3
