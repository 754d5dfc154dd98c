# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""An HTML page as a reader's browser takes it apart, with the standard library's parser."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "br", "link", "input", "hr", "base", "embed", "source"}
Attributes = dict[str, str]


class ParsedPage(HTMLParser):
    """Elements and texts of a page.

    Args:
        path (Path): The HTML file.

    Attributes:
        elements (list[tuple[str, Attributes]]): Tag and attributes, in order.
        texts (dict[str, list[str]]): Tag to the text directly or indirectly inside each such
            element, spaces joined.

    Raises:
        AssertionError: Tags are not balanced.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, Attributes]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[tuple[str, list[str]]] = []
        self.feed(path.read_text("utf-8"))
        self.close()
        assert not self._open, f"never closed: {[tag for tag, _ in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag == "br":
            self.handle_data(" ")
        if tag not in VOID:
            self._open.append((tag, []))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in <{tag}>"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        opened, text = self._open.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}> in line {self.getpos()[0]}"
        self.texts.setdefault(tag, []).append(" ".join("".join(text).split()))

    def handle_data(self, data: str) -> None:
        for _, text in self._open:
            text.append(data)

    def all(self, tag: str) -> list[Attributes]:
        """Attributes of every ``tag``."""
        return [attributes for name, attributes in self.elements if name == tag]
