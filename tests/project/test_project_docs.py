# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The documentation holds: pages build, links lead somewhere, and what can be copied runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from guide_runs import script_of
from markdown_pages import PAGES, ROOT, anchors, blocks, links
from parsed_page import ParsedPage

import composer_dataagent.streaming
from composer_dataagent import DataAgent
from composer_dataagent.cli import main
from composer_dataagent.recipes import load_recipe

# With the builder left out, what `make docs` runs.
SPHINX = [sys.executable, "-m", "sphinx", "--quiet", "-W", "--keep-going", "-n", "-c", "docs", "."]
SHELL = ("", "bash", "console", "sh", "shell")


def run(command: list[object], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [str(word) for word in command]
    return subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    built = run([*SPHINX, out], ROOT)
    assert built.returncode == 0, built.stderr  # -W: of any warning
    return out


def test_pages_build_without_a_warning_and_load_nothing_from_outside(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert {site / page.replace(".md", ".html") for page in PAGES} <= set(pages)
    for page in pages:
        parsed = ParsedPage(page)
        loaded = [link["href"] for link in parsed.all("link")]
        loaded += [
            each["src"] for tag in ("script", "img") for each in parsed.all(tag) if "src" in each
        ]
        for target in loaded:
            assert not urlsplit(target).netloc, f"{page} loads {target}"
            path = urlsplit(target).path
            assert (page.parent / path).exists(), f"{page} loads {target}, which is not there"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\W*(https?:)?//", sheet.read_text("utf-8")), sheet


def test_everything_that_is_exported_for_subsets_is_on_a_page(site: Path) -> None:
    page = (site / "docs/api/streaming.html").read_text("utf-8")
    names = set(composer_dataagent.streaming.__all__) - {"FETCHES"}
    assert not [n for n in names if f'id="composer_dataagent.streaming.{n}"' not in page]
    assert set(composer_dataagent.__all__) <= names | {"DataAgent"}


def test_examples_of_docstrings_run(tmp_path: Path) -> None:
    done = run([*SPHINX, "-b", "doctest", tmp_path], ROOT)
    shown = (tmp_path / "output.txt").read_text("utf-8")
    assert done.returncode == 0, shown + done.stderr
    for name in ("data_agent", "streaming", "signals", "selection", "recipes"):
        assert f"docs/api/{name}" in shown


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:  # there may be no network here
            assert parts.scheme == "https" and "." in parts.netloc, f"{page}: {link}"
            continue
        target = (ROOT / page).parent / parts.path if parts.path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if parts.fragment:
            assert parts.fragment in anchors(target.resolve().relative_to(ROOT).as_posix()), (
                f"{page}: {link} names no heading"
            )


@pytest.mark.parametrize(
    "path", [*PAGES, *(f"yamls/{path.name}" for path in sorted((ROOT / "yamls").glob("*.yaml")))]
)
def test_files_that_are_named_exist(path: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    for name in re.findall(
        r"(?<![\w/.-])((?:tools|yamls|docs|tests)/[\w/]+\.(?:py|yaml|md|png))", text
    ):
        assert (ROOT / name).exists(), f"{path} names {name}"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_of_a_page_runs_from_top_to_bottom(page: str, tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text(script_of(page, blocks(page, "python")))
    done = run([sys.executable, script], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def settings_of(page: str) -> list[dict[str, Any]]:
    """What a page gives ``data_agent`` in YAML, in blocks and within lines."""
    text = (ROOT / page).read_text("utf-8")
    whole = [each for block in blocks(page, "yaml") for each in yaml.safe_load_all(block)]
    sections = [each["algorithms"] for each in whole if "algorithms" in each]
    sections += map(yaml.safe_load, re.findall(r"`(data_agent: \{[^`]*\})`", text))
    return [section["data_agent"] for section in sections if "data_agent" in section]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "data_agent:" in (ROOT / page).read_text()]
)
def test_yaml_of_a_page_makes_a_data_agent(page: str) -> None:
    settings = settings_of(page)
    assert settings
    for arguments in settings:
        assert repr(DataAgent(**arguments)).startswith("DataAgent(")


def test_the_whole_recipe_of_the_guide_is_accepted(tmp_path: Path) -> None:
    (whole,) = (text for text in blocks("docs/guides/recipes.md", "yaml") if "trainer:" in text)
    path = tmp_path / "mine.yaml"
    path.write_text(whole)
    assert list(load_recipe(path).algorithms) == ["data_agent", "label_smoothing", "ema"]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, *SHELL)])
def test_commands_of_a_page_have_the_options_that_it_gives_them(page: str) -> None:
    for line in "".join(blocks(page, *SHELL)).splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["composer-dataagent"]:
            command = main.commands[words[1]]
            known = {option for each in command.params for option in each.opts}
            given = {word for word in words if word.startswith("--")}
            assert given <= known, f"{page}: {line}"
        elif words[:1] == ["make"]:
            makefile = (ROOT / "Makefile").read_text()
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), f"{page}: {line}"
