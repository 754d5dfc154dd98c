# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""How Sphinx makes the pages (``make docs``).

Its source folder is the whole repository, so that a link between two Markdown files is the same in
an editor, on a code host and in the pages that are built.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from composer_dataagent.version import __version__

project = "composer_dataagent"
author = "composer_dataagent authors"
copyright = f"2026, {author}"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest", "sphinx.ext.napoleon"]

# ---------------------------------------------------------------- what is read
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "README.md",
    "RESULTS.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "composer_dataagent/README.md",
    "docker/README.md",
    "launch/README.md",
    "tools/results/*.md",
]
suppress_warnings = ["myst.header"]  # the comparisons' tables have no title
# Folders that it need not even look into.
exclude_patterns = [".*", "build", "data", "dist", "runs", "tests"]
highlight_language = "none"  # of blocks that name none: commands
myst_heading_anchors = 4  # as deep as links reach; a code host makes the same anchors

# ---------------------------------------------------------------- what is read of the code
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings state types, with shapes and dtypes
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
# Types of other packages.
nitpick_ignore_regex = [
    ("py:class", r"(np|torch|collections\.abc)\..+|NDArray|Tensor|Path"),
    ("py:class", r"StreamingDataset|DataLoader|Dataset|Trainer|Callback"),
    ("py:class", r"Ids|Rows|SignalsFn"),  # ours; Sphinx 8.1, the last for Python 3.10, finds none
    ("py:attr", r"Event\..+"),
    ("myst", "tools/results"),  # a folder
]

# ---------------------------------------------------------------- examples that run
doctest_test_doctest_blocks = "default"
# Each page's examples begin in a folder with two small data sets, and with the recipes.
doctest_global_setup = f"""
import contextlib, os, tempfile
from streaming import MDSWriter
from composer_dataagent.signals import classification_signals
from composer_dataagent.streaming import Costs, clear

_folder = tempfile.TemporaryDirectory()
os.chdir(_folder.name)
os.symlink({str(Path(__file__).parents[1] / "yamls")!r}, "yamls")
for _name, _type, _values in (("numbers", "int", range(20)), ("letters", "str", "abcdefghijkl")):
    with MDSWriter(out=f"data/{{_name}}", columns={{"x": _type}}) as _out:
        for _value in _values:
            _out.write({{"x": _value}})
"""
doctest_global_cleanup = "os.chdir('/'); _folder.cleanup()"

# ---------------------------------------------------------------- what comes out
html_theme = "furo"  # asks for nothing outside of the pages
html_title = f"Data Agent {version}"
html_copy_source = False
templates_path = ["templates"]
html_additional_pages = {"index": "front.html"}  # the pages' own folder opens the first of them


def _escape_underscores(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Keep ``np.bool_`` from being read as a link to ``np.bool``."""
    del app, what, name, obj, options
    lines[:] = [line.replace("np.bool_]", r"np.bool\_]") for line in lines]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _escape_underscores, priority=900)  # after napoleon
