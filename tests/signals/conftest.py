# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests of the signals."""

from __future__ import annotations

from no_host_sync import no_host_sync as no_host_sync
