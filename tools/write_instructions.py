# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Write what Python's standard library says about itself as JSON lines of prompt and response.

    \b
    python tools/write_instructions.py --out data/instructions

Real instructions and answers without a download: a prompt asks what a public function, class or
method does, by its name and signature, and the response is the first paragraph of its docstring.
The library's source is read and nothing of it is run. One module in ten, by the CRC-32 of its name,
is to evaluate on (eval.jsonl), the others are to train on (train.jsonl); no prompt and no response
is there twice. They depend on the version of Python.
"""

from __future__ import annotations

import ast
import inspect
import sys
import sysconfig
import tokenize
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track
from train_eval_files import overwrite_option, refuse_to_replace, write_split

# Programs and tests that come with the library, and texts and grammars of other tools.
NO_LIBRARY = {"idlelib", "lib2to3", "pydoc_data", "test", "tests", "turtledemo", "antigravity"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(library: Path) -> dict[str, Path]:
    """The public modules of a standard library, by name, in alphabetical order.

    Args:
        library (Path): Its folder; that of installed packages, inside it, is none of it.
    """
    found = {}
    for path in library.rglob("*.py"):
        parts = path.relative_to(library).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        known = parts and parts[0] in sys.stdlib_module_names
        if known and not any(part.startswith("_") or part in NO_LIBRARY for part in parts):
            found[".".join(parts)] = path
    return dict(sorted(found.items()))


def pairs_of(module: str, source: str) -> Iterator[tuple[str, str]]:
    """Prompts and responses of a module, in the order of its source.

    Args:
        module (str): Its name.
        source (str): Its text.

    Yields:
        tuple[str, str]: ``Describe the function shutil.which(cmd, ...):``, with the end of the
        line, and the docstring's first paragraph as one line.
    """
    return _pairs(ast.parse(source).body, module, "function")


def _pairs(body: Sequence[ast.AST], place: str, kind: str) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.If | ast.Try | ast.ExceptHandler):  # of one platform, or a fallback
            yield from _pairs(list(ast.iter_child_nodes(node)), place, kind)
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        name = f"{place}.{node.name}"
        if text := inspect.cleandoc(ast.get_docstring(node) or ""):
            response = " ".join(text.split("\n\n")[0].split())
            if isinstance(node, ast.ClassDef):
                bases = ", ".join(map(ast.unparse, node.bases))
                yield f"Describe the class {name}({bases}):\n", response
            else:
                yield f"Describe the {kind} {name}({ast.unparse(node.args)}):\n", response
        if isinstance(node, ast.ClassDef):
            yield from _pairs(node.body, name, "method")


def splits(library: Path | None = None) -> dict[str, list[tuple[str, str]]]:
    """The pairs to train and to evaluate on, sorted by prompt.

    Args:
        library (Path | None): Folder of a standard library. Default: this Python's.

    Raises:
        click.ClickException: It has no source.
    """
    library = library or Path(sysconfig.get_path("stdlib"))
    found = modules(library)
    responses: dict[str, tuple[str, str]] = {}  # response -> the module and prompt it is from
    prompts: set[str] = set()
    bar = track(found.items(), "modules", console=Console(stderr=True), total=len(found))
    for module, path in bar:
        with tokenize.open(path) as file:  # in the encoding that the source declares
            source = file.read()
        for prompt, response in pairs_of(module, source):
            if prompt not in prompts and response not in responses:
                prompts.add(prompt)
                responses[response] = (module, prompt)
    if not responses:
        raise click.ClickException(f"{library} has no source of a standard library: name another")
    chosen: dict[str, list[tuple[str, str]]] = {"eval": [], "train": []}
    for response, (module, prompt) in responses.items():
        held_out = zlib.crc32(module.encode()) % 10 == 0
        chosen["eval" if held_out else "train"].append((prompt, response))
    return {split: sorted(pairs) for split, pairs in chosen.items()}


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--library",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a standard library. Default: this Python's.",
)
@overwrite_option
def main(out: Path, library: Path | None, overwrite: bool) -> None:
    """Write both files."""
    refuse_to_replace(out, overwrite)
    for split, pairs in splits(library).items():
        rows = ({"prompt": prompt, "response": text} for prompt, text in pairs)
        path = write_split(out, split, rows)
        characters = sum(len(prompt) + len(text) for prompt, text in pairs)
        click.echo(f"{path}: {len(pairs):,} pairs, {characters:,} characters")


if __name__ == "__main__":
    main()
