# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``tools/write_instructions.py``: what it takes from source, and that no answer is given away."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result
from write_instructions import main, pairs_of

SOURCE = '''
"""Of a module, which is not asked for."""
import os
raise SystemExit("the source is read, not run")

if os.name == "posix":
    def first(a, *, b: int = 1) -> None:
        """Say what
        is first.

        Not this.
        """
        def inner(): "Not asked for."

class Kind(dict, metaclass=type):
    """A kind."""

    async def method(self): "A method."
    def _private(self): "Private."
    def silent(self): pass
'''


def write(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def pairs_in(folder: Path, split: str) -> list[tuple[str, str]]:
    rows = map(json.loads, (folder / f"{split}.jsonl").read_text().splitlines())
    return [(row["prompt"], row["response"]) for row in rows]


def test_what_is_asked_about_a_module() -> None:
    assert list(pairs_of("some.module", SOURCE)) == [
        ("Describe the function some.module.first(a, *, b: int=1):\n", "Say what is first."),
        ("Describe the class some.module.Kind(dict):\n", "A kind."),
        ("Describe the method some.module.Kind.method(self):\n", "A method."),
    ]


def test_thousands_of_real_pairs_each_once_whose_modules_are_on_one_side(tmp_path: Path) -> None:
    assert write("--out", tmp_path).exit_code == 0
    train, held_out = pairs_in(tmp_path, "train"), pairs_in(tmp_path, "eval")
    assert len(train) > 2000 and len(held_out) > 200
    assert train == sorted(train) and held_out == sorted(held_out)
    for column in zip(*train, *held_out, strict=True):
        assert len(set(column)) == len(train) + len(held_out)
    asked = dict(train + held_out)
    assert asked["Describe the function shlex.join(split_command):\n"] == (
        "Return a shell-escaped string from *split_command*."
    )


def test_what_is_there_is_replaced_only_if_asked_for(tmp_path: Path) -> None:
    library, out = tmp_path / "library", tmp_path / "out"
    library.mkdir()
    (library / "abc.py").write_text(SOURCE)
    assert write("--out", out, "--library", library).exit_code == 0
    before = (out / "train.jsonl").read_bytes()
    (library / "abc.py").write_text(SOURCE + "\ndef more(): 'More.'\n")
    refused = write("--out", out, "--library", library)
    assert refused.exit_code == 1 and "eval.jsonl is there: give another --out" in refused.output
    assert (out / "train.jsonl").read_bytes() == before
    assert write("--out", out, "--library", library, "--overwrite").exit_code == 0
    assert ("Describe the function abc.more():\n", "More.") in pairs_in(out, "train")


def test_a_folder_without_a_library(tmp_path: Path) -> None:
    refused = write("--out", tmp_path / "out", "--library", tmp_path)
    assert refused.exit_code == 1 and "has no source of a standard library" in refused.output
