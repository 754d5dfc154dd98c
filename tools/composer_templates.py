# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: Composer's own algorithm test templates, run with DataAgent.

Each algorithm of Composer has to train, to go on in a second ``fit()``, to resume from a checkpoint
in the middle of an epoch with everything equal in the end, and to have a repr that says how to make
it. In a checkout of mosaicml/composer at the version that is installed:

    PYTHONPATH=<this folder> python -m pytest -o addopts= -p composer_templates -k DataAgent \
        tests/algorithms/test_algorithms_train.py tests/algorithms/test_algorithm_resumption.py \
        tests/algorithms/test_required_on_load.py

and for two ranks the same behind ``composer -n 2 -m pytest`` in the place of ``python -m pytest``.
Without ``-k`` Composer's own algorithms run, too: what fails there is none of ours.

The templates ask for a GPU, for bfloat16 and for ``train_subset_num_batches=2``. Where there is no
GPU they run on the CPU in float32. DataAgent's data set is another one than the templates' in two
points. It has two batches, for DataAgent refuses to train on a part of an epoch's batches. And its
images are drawn when it is made: those of the templates are drawn from the global generator when
the first is read, so that a run is the same again only if it reads, when it is resumed, all that
was read before; DataAgent does not read what was served.

The comparison of two checkpoints is Composer's, but that two NaN are equal (the ledger has them for
samples that no epoch is done with) and that times of the wall clock, which the template removes
from Composer's own state, are not compared in DataAgent's either.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import composer.algorithms
import pytest
import torch
from composer import Trainer
from composer.utils import dist

from composer_dataagent import DataAgent

SETTINGS: dict[str, dict[str, Any]] = {
    "DataAgent": {},
    "DataAgentFeatures": {"state": "features", "update_interval": 1},
    "DataAgentPaper": {"preset": "paper"},
    "DataAgentInfoBatch": {"selector": "infobatch"},
}
SAMPLES = 8 * dist.get_world_size()  # two batches of 4 on each rank
TIMES = {"seconds", "agent_seconds"}


def make_images() -> Any:
    """Composer's random images, drawn when the data set is made."""
    images = importlib.import_module("tests.common.datasets").RandomImageDataset(size=SAMPLES)
    generator = torch.Generator().manual_seed(0)
    images.x = torch.randn(SAMPLES, *images.shape, generator=generator)
    images.y = torch.arange(SAMPLES) % images.num_classes
    return images


_make_trainer = Trainer.__init__


def _make_trainer_on_this_machine(self: Any, *args: Any, **kwargs: Any) -> None:
    if not torch.cuda.is_available():
        kwargs.pop("precision", None)
    _make_trainer(self, *args, **kwargs)


def _compare_but_for_times_and_nan(compare: Callable[[Any, Any], None]) -> Callable[..., None]:
    def comparable(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: comparable(value) for key, value in item.items() if key not in TIMES}
        if isinstance(item, list | tuple):
            return type(item)(comparable(value) for value in item)
        if isinstance(item, torch.Tensor) and item.is_floating_point():
            return item.nan_to_num(nan=-1e30)
        return item

    return lambda a, b: compare(comparable(a), comparable(b))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make DataAgent one of Composer's algorithms, in a few settings, with data and a model."""
    del config
    Trainer.__init__ = _make_trainer_on_this_machine
    # Composer's conftest.py would download tokenizers, which these templates do not use.
    fixtures: Any = importlib.import_module("tests.fixtures.fixtures")
    fixtures.assets_tokenizer_helper = lambda name: None
    common: Any = importlib.import_module("tests.common")
    common.deep_compare = _compare_but_for_times_and_nan(common.deep_compare)
    settings = importlib.import_module("tests.algorithms.algorithm_settings")
    for name, kwargs in SETTINGS.items():
        algorithm = type(name, (DataAgent,), {})
        setattr(composer.algorithms, name, algorithm)
        composer.algorithms.__all__.append(name)
        settings._settings[algorithm] = {
            "model": settings.SimpleConvModel,
            "dataset": make_images,
            "kwargs": kwargs,
        }


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a GPU, a test that asks for one runs anyway."""
    if torch.cuda.is_available():
        return
    for item in items:
        for node in item.listchain():
            node.own_markers = [mark for mark in node.own_markers if mark.name != "gpu"]


def pytest_report_header() -> str:
    """Say which files are run, and with what."""
    return f"with {inspect.getfile(DataAgent)}, samples: {SAMPLES}"
