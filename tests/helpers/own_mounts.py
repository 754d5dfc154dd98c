# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Commands with mounts of their own, such as a /dev/shm or a small disk."""

from __future__ import annotations

import subprocess

import pytest

_APART = ["unshare", "--user", "--map-root-user", "--mount"]
OWN_SHARED_MEMORY = 'mount -t tmpfs tmpfs /dev/shm && exec "$@"'


def apart(script: str) -> list[str]:
    """What a command is put behind, so that a shell script mounts and then starts it.

    Skips the test where the system lets nobody mount.

    Args:
        script (str): It gets the command, and whatever is put before, as its arguments.
    """
    try:
        tried = subprocess.run([*_APART, "true"], capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(str(error))
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr.strip()}")
    return [*_APART, "sh", "-c", script, "sh"]
