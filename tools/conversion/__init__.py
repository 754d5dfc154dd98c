# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The parts of ``tools/convert_text.py``: files -> parts -> documents -> sequences -> shards."""
