# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``python -m composer_dataagent``, which the ``composer`` launcher can start as well."""

from __future__ import annotations

from composer_dataagent.cli import main

main(prog_name="composer-dataagent")
