# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Settings for tests of the selection."""

from __future__ import annotations

import unhurried_laws as unhurried_laws
