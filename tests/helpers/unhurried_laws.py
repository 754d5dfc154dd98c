# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Importing this lifts Hypothesis's time limit per example: a busy machine is not a broken law."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
