# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The parts of ``tools/compare.py``: sources -> conditions -> shards -> runs -> rows -> table."""
