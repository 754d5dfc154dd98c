# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The label of what is not learned: of padding and prompts, of pixels without a class."""

from __future__ import annotations

IGNORED = -100  # torch's own
