# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Take a picture of a report, or of a part of it, as the system's Chromium shows it.

\b
python tools/screenshot.py runs/demo/report.html docs/report.png --height 900
python tools/screenshot.py runs/noise40/report.html docs/suspects.png --from 'Probably mislabelled'

The README's pictures are made so, of `make demo`'s report and of this run's:

\b
python tools/bench_suspects.py --conditions noise40 --selectors data_agent --seeds 1
composer-dataagent train yamls/fashion.yaml run_name=noise40 \\
    train_loader.dataset.local=runs/suspects/data/fashion/noise40-seed0 \\
    eval_loader.dataset.local=runs/suspects/data/fashion/eval
"""

from __future__ import annotations

import shutil
from pathlib import Path

import click
from playwright.sync_api import sync_playwright


@click.command(help=__doc__)
@click.argument("page", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--width", default=1180, show_default=True, help="Of the window, in pixels.")
@click.option("--height", default=480, show_default=True, help="Of the picture.")
@click.option("--from", "heading", help="Begin at the element that has this text.")
@click.option("--dark", is_flag=True, help="In dark colours.")
def main(page: Path, out: Path, width: int, height: int, heading: str | None, dark: bool) -> None:
    """Open, look, write."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise click.ClickException("there is no chromium: install Debian's package of that name")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light"
        )
        shown.goto(page.resolve().as_uri())
        top = 0.0
        if heading is not None:
            element = shown.query_selector(f"text={heading}")
            box = element.bounding_box() if element is not None else None
            if box is None:
                raise click.ClickException(f"{page} shows no {heading!r}")
            top = max(0.0, box["y"] - 20)
        clip: dict[str, float] = {"x": 0, "y": top, "width": width, "height": height}
        out.parent.mkdir(parents=True, exist_ok=True)
        shown.screenshot(path=out, clip=clip, full_page=True)  # type: ignore[arg-type]
        browser.close()
    click.echo(out)


if __name__ == "__main__":
    main()
