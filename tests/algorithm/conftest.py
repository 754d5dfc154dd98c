# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that train through Composer's own Trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from composer import Trainer
from digits_run import build_trainer, make_loader, write_shards
from no_host_sync import no_host_sync as no_host_sync


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_shards(str(tmp_path_factory.mktemp("digits")))


@pytest.fixture
def make_trainer(shards: str) -> Iterator[Callable[..., Trainer]]:
    trainers: list[Trainer] = []

    def factory(algorithms: Any = None, *, loader: Any = None, **kwargs: Any) -> Trainer:
        trainers.append(build_trainer(loader or make_loader(shards), algorithms, **kwargs))
        return trainers[-1]

    yield factory
    for trainer in trainers:
        trainer.close()


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    return str(tmp_path / "run")
