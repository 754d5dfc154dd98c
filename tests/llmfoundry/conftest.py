# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Inputs of the tests with llm-foundry, which has an environment of its own."""

from __future__ import annotations

import importlib
import warnings
from importlib.util import find_spec

import pytest
from llmfoundry_runs import Inputs, write_inputs

if find_spec("llmfoundry"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it imports is deprecated here and there
        importlib.import_module("llmfoundry.command_utils")
else:
    # Then there is nothing to collect, which `make test-llmfoundry` takes for a failure.
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Data sets and a tokenizer that no test may change."""
    return write_inputs(tmp_path_factory.mktemp("inputs"))
