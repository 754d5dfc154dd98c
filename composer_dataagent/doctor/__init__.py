# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether this machine can train: what is missing, and what to do about it.

Nothing here imports torch, Composer or streaming before it was seen that they can be: where one is
broken, that is what is to be told.
"""

from composer_dataagent.doctor.finding import Finding, Level
from composer_dataagent.doctor.machine import check_machine
from composer_dataagent.doctor.packages import check_packages
from composer_dataagent.doctor.storage import check_local, check_remote

__all__ = ["Finding", "Level", "check_local", "check_machine", "check_packages", "check_remote"]
