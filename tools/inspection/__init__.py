# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The parts of ``tools/inspect_shards.py``: what shards and runs are, as facts and as text."""
