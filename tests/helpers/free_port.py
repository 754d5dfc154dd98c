# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A port of the loopback for a server that has to be told one."""

from __future__ import annotations

import socket


def free_port() -> int:
    """One that nobody has at this moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
