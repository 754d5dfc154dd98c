# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Pages as a browser shows them: whole, readable on a phone and in the dark, asking for nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mds_samples import write_shards
from synthetic_run import write_run

from composer_dataagent.recipes.plan import plan, run_of
from composer_dataagent.report import write_page
from composer_dataagent.report.plan import write_plan

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
# As many as the page's own text colours have to differ from what is behind (WCAG 2.1, AA).
CONTRAST = """() => {
  const luminance = ([r, g, b]) => [r, g, b]
    .map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const colour = (text) => text.match(/[0-9.]+/g).map(Number);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const found = colour(getComputedStyle(e).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const found = [];
  const texts = "h1, h2, h3, p, td, th, dt, dd, li span, figcaption *";
  for (const e of document.querySelectorAll(texts)) {
    if (!e.textContent.trim()) continue;
    const [a, b] = [colour(getComputedStyle(e).color), behind(e)].map(luminance);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${e.tagName} ${e.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    names = ["a very long name of a class that goes on and on", "<b>犬</b>", "c" * 200, "d"]
    runs = [
        write_run(folder, "full", seed=0),
        write_run(folder, "data_agent", seed=0, class_names=names, classes=4),
        write_run(folder, "data_agent", seed=1, class_names=names, classes=4),
        write_run(folder, "random", seed=0, run_name="r" * 100, ratio=0.25),
    ]
    planned = plan(run_of(write_shards(folder / "shards"), ()))
    return {
        "report": write_page(runs, folder / "report.html", title="Runs " + "x" * 80),
        "plan": write_plan(planned, folder / "plan.html"),
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield chromium
        chromium.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", ["report", "plan"])
def test_a_page_is_shown_whole(
    pages: dict[str, Path], browser: Any, name: str, width: int, scheme: str
) -> None:
    said: list[str] = []
    asked: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(pages[name].as_uri())
    assert page.title()
    for closed in page.query_selector_all("details:not([open]) > summary"):
        closed.click()
    assert page.query_selector("details:not([open])") is None
    overflow = "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) <= 0
    for picture in page.query_selector_all("svg, img"):
        box = picture.bounding_box()
        assert box is not None and box["width"] > 30 and box["height"] > 20
    broken = "[...document.images].filter((i) => !i.naturalWidth).length"
    assert page.evaluate(broken) == 0
    missing = "[...document.querySelectorAll('[href^=\\'#\\']')].filter("
    missing += "(a) => !document.getElementById(a.getAttribute('href').slice(1))).length"
    assert page.evaluate(missing) == 0
    assert page.evaluate(CONTRAST) == []
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [pages[name].as_uri()]
    page.close()
