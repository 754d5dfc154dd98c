# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import composer_dataagent

PACKAGE = Path(composer_dataagent.__file__).parent
ROOT = PACKAGE.parent
WINGS = {"selection", "agent", "signals", "streaming", "report"}
# What each room may import from this package: arrows point down only.
FLOORS: dict[str, set[str]] = {
    **{wing: {wing, "collectives", "checks", "units"} for wing in WINGS},
    "checks": set(),
    "companions": {"signals"},
    "collectives": set(),
    "version": set(),
    "units": set(),
    "learning_rate": set(),
    "rounds": {"checks", "selection"},
    "judge": {"agent", "collectives", "presets", "report", "selection", "visits"},
    "look": {"random_state", "signals"},
    "presets": {"agent"},
    "random_state": set(),
    "visits": set(),
    "journal": {"report"},
    "fetched": {"collectives", "streaming"},
    "nonfinite": set(),
    "algorithm": WINGS
    | {"checks", "collectives", "version", "learning_rate", "presets", "visits", "journal"}
    | {"random_state", "companions", "nonfinite", "rounds", "look", "judge", "fetched"},
    "doctor": {"doctor", "streaming", "units", "version"},
    "recipes": WINGS | {"algorithm", "collectives", "version", "recipes", "rounds", "doctor", ""},
    "cli": WINGS | {"recipes", "version", "", "algorithm", "collectives", "doctor"},
    "__init__": {"algorithm", "streaming"},
    "__main__": {"cli"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            if node.module != "composer_dataagent":
                names = [node.module]
        for name in names:
            head, _, rest = name.partition(".")
            if head == "composer_dataagent":
                room = rest.split(".")[0]
                exists = (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").exists()
                rooms.add(room if exists else "")
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_down_only(path: Path) -> None:
    room = room_of(path)
    assert imported_rooms(path) <= FLOORS[room], f"{room} may import {sorted(FLOORS[room])} only"


@pytest.mark.parametrize(
    "path",
    FILES + sorted((ROOT / "tests").rglob("*.py")),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_files_start_with_the_licence_and_say_their_idea(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(
        "# Copyright 2026 composer_dataagent authors\n# SPDX-License-Identifier: Apache-2.0\n"
    )
    assert ast.get_docstring(ast.parse(text)), "a module docstring says the file's one idea"


@pytest.mark.parametrize("wing", ["selection", "agent"])
def test_pure_wings_import_neither_composer_nor_streaming(wing: str) -> None:
    code = (
        f"import sys, composer_dataagent.{wing}\n"
        "assert not {'composer', 'streaming'} & set(sys.modules), 'heavy import'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_llm_foundry_finds_the_algorithm_by_its_entry_point() -> None:
    (found,) = entry_points(group="llmfoundry_algorithms", name="data_agent")
    assert found.load() is composer_dataagent.DataAgent
