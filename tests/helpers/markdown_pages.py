# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The repository's Markdown as a reader has it: links, anchors, and blocks to copy."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "composer_dataagent/*.md", "docs/**/*.md", "tools/**/*.md")
    for path in ROOT.glob(pattern)
)


def tokens(page: str) -> list[Token]:
    """A page taken apart."""
    return MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text("utf-8"))


def links(page: str) -> Iterator[str]:
    """Where links and pictures of a page lead, as it is written."""
    for block in tokens(page):
        for token in block.children or []:
            target = token.attrs.get("href") or token.attrs.get("src")
            if target:
                yield str(target)


def anchors(page: str) -> set[str]:
    """What a link into a page can name, by GitHub's rule: its headings in lower case, without
    punctuation, with hyphens for spaces, and numbered where there are several of one name.
    """
    found: set[str] = set()
    seen: Counter[str] = Counter()
    parsed = tokens(page)
    for heading, text in pairwise(parsed):
        if heading.type == "heading_open":
            words = "".join(token.content for token in text.children or [])
            slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def blocks(page: str, *languages: str) -> list[str]:
    """The fenced blocks of some languages, in order; ``""``: of none."""
    return [
        token.content
        for token in tokens(page)
        if token.type == "fence" and token.info.strip() in languages
    ]
