# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``tools/convert_text.py`` as a command, and what it wrote as readers see it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from convert_text import main
from streaming import StreamingDataset

TOOL = Path(__file__).parents[2] / "tools" / "convert_text.py"
END = 256  # the token that ends a document of bytes


def convert(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def converted(*arguments: object) -> dict[str, Any]:
    """What the last line says."""
    result = convert(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.output.splitlines()[-1])


def lines_file(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def samples(folder: Path) -> list[dict[str, Any]]:
    """As stock streaming reads them."""
    dataset = StreamingDataset(local=str(folder), batch_size=1, shuffle=False)
    return [dataset[i] for i in range(dataset.num_samples)]
