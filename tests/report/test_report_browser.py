# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Pages as a browser shows them: whole, readable on a phone and in the dark, asking for nothing."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mds_samples import write_shards
from synthetic_run import write_run

from composer_dataagent.recipes.plan import plan, run_of
from composer_dataagent.report import History, Run, read_run, write_page
from composer_dataagent.report.page import describe_page, write_described
from composer_dataagent.report.plan import write_plan
from composer_dataagent.report.pulse import PROGRESS

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
  const texts = "h1, h2, h3, p, td, th, dt, dd, li *, p *, summary, figcaption *";
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
    path = folder / "followed.html"
    going_on = [going_on_again(folder, selector) for selector in ("data_agent", "random")]
    page = describe_page(going_on, dollars_per_hour=3.0)
    return {
        "report": write_page(runs, folder / "report.html", title="Runs " + "x" * 80),
        "plan": write_plan(planned, folder / "plan.html"),
        "followed": write_described(page, going_on, path, reload_seconds=3600),
    }


def going_on_again(folder: Path, selector: str) -> Run:
    """A run of which nobody knows whether it goes on, as other machines see it after a while."""
    path = write_run(folder / "going-on", selector, shards=90, run_name="r" * 100).path
    facts = {"state": "running", "time": time.time() - 900, "epochs": 4.5}
    (path / PROGRESS).write_text(json.dumps(facts))
    return read_run(path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield chromium
        chromium.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", ["report", "plan", "followed"])
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


def test_a_table_tells_a_screen_reader_what_a_heat_map_shows(
    pages: dict[str, Path], browser: Any
) -> None:
    page = browser.new_page()
    page.goto(pages["followed"].as_uri())
    shard = page.get_by_role("img", name="Share of each group of neighbouring shards")
    assert shard.first.is_visible()
    region = page.get_by_role("region", name="Which shards are read, as a table").first
    assert not region.is_visible()
    summary = page.locator("details[open] summary", has_text="As a table").nth(1)
    summary.focus()
    page.keyboard.press("Enter")  # without a mouse
    assert region.is_visible()
    assert region.get_by_role("row").count() == 1 + 40
    assert region.get_by_role("columnheader", name="epoch 7").count() == 1
    assert region.get_by_role("rowheader", name="0\N{EN DASH}1").count() == 1
    page.keyboard.press("Tab")
    assert region.evaluate("(e) => document.activeElement === e")  # and can be scrolled
    states = page.get_by_role("list", name="Runs that go on").get_by_role("listitem")
    assert [text.split(": ")[1][:15] for text in states.all_inner_texts()] == [
        "no sign of life"
    ] * 2
    page.close()


def test_a_followed_page_loads_itself_again_until_the_run_has_ended(
    tmp_path: Path, browser: Any
) -> None:
    history = History(tmp_path / "run")
    history.begin({"run_name": "mine", "selector": "random", "num_epochs": 2}, epoch=0)

    def write(reload_seconds: float | None) -> Path:
        runs = [read_run(tmp_path / "run")]
        page = describe_page(runs)
        return write_described(page, runs, tmp_path / "page.html", reload_seconds)

    said: list[str] = []
    loads: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("load", lambda _: loads.append("load"))
    page.goto(write(1).as_uri())
    assert "epoch 1 of 2" in page.inner_text("header")
    history.append({"epoch": 0, "ratio": 0.5})
    write(1)
    page.wait_for_selector("text=epoch 2 of 2", timeout=0)
    history.append({"epoch": 1, "ratio": 0.5})
    history.end()
    write(None)
    page.wait_for_selector(".states", state="detached", timeout=0)
    before = len(loads)
    page.wait_for_timeout(2500)  # longer than it took to load itself again
    assert len(loads) == before >= 3 and said == []
    page.close()
