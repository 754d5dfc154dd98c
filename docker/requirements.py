# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the package and some extras of it need, one a line, from the pyproject.toml that is here.

So a layer of an image has all that and not the package itself, and stays as it is while only the
package's code changes. Example: ``python docker/requirements.py demo text``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tomllib

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
if unknown := sorted({*sys.argv[1:]} - {*extras}):
    sys.exit(f"There is no extra {', '.join(unknown)}: there are {', '.join(extras)}")
needed = [*project["dependencies"], *(each for name in sys.argv[1:] for each in extras[name])]
print(*needed, sep="\n")
