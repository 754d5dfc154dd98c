# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The parts of ``tools/convert_text.py`` and ``tools/convert.py``.

Of texts: files -> parts -> documents -> sequences -> shards. Of images: listing -> parts -> shards.
Of both: a job in parts, which is killed and goes on, and shards where they are kept.
"""
