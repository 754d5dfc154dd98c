# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The version, as the installed package states it."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("composer-dataagent")
