# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Composer asks which processor there is, which takes a second: imported once, forks know it."""

from __future__ import annotations

from composer.utils.collect_env import get_cpu_model

get_cpu_model()
