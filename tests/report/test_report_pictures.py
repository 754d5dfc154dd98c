# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every picture of a page as a PNG file, none of which takes the place of another."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from parsed_page import ParsedPage
from PIL import Image
from report_rows import make_run
from synthetic_run import write_run

from composer_dataagent.report import write_page
from composer_dataagent.report.png import write_pictures


def test_the_pictures_of_a_page(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, selector, class_names=["犬", "$\\frac{", "a"], epochs=3, samples=False)
        for selector in ("full", "data_agent")
    ]
    before = dict(matplotlib.rcParams)
    files = write_pictures(runs, tmp_path / "deep" / "png")
    page = ParsedPage(write_page(runs, tmp_path / "page.html"))
    assert len(files) == len(set(files)) == len(page.all("svg"))
    assert [file.name for file in files[:2]] == [
        "multiclassaccuracy-against-cost.png",
        "full_the-two-rewards.png",
    ]
    assert tmp_path / "deep" / "png" / "data_agent_which-shards-are-read.png" in files
    assert sorted(files) == sorted((tmp_path / "deep" / "png").iterdir())
    for file in files:
        with Image.open(file) as image:
            assert image.format == "PNG" and image.width >= 900 and image.height >= 400
            pixels = np.asarray(image.convert("RGB"))
        assert (pixels[0] == 255).all() and (pixels[:, -1] == 255).all()  # on white
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20  # and something is
    assert dict(matplotlib.rcParams) == before


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    run, other = (write_run(tmp_path, seed=seed, epochs=2, samples=False) for seed in range(2))
    files = write_pictures([run], tmp_path / "png")
    assert write_pictures([run], tmp_path / "png") == files  # the same again
    files[0].unlink()
    files[-1].write_bytes(b"mine")
    before = {file: file.read_bytes() for file in files[1:]}
    with pytest.raises(FileExistsError, match=r"is there already.*--overwrite"):
        write_pictures([other], tmp_path / "png")
    assert {file: file.read_bytes() for file in (tmp_path / "png").iterdir()} == before
    write_pictures([other], tmp_path / "png", overwrite=True)
    assert files[-1].read_bytes() != b"mine" and files[0].exists()


def test_labels_that_no_file_can_have(tmp_path: Path) -> None:
    rows = [{"epoch": 0, "ratio": 0.5}]
    runs = [
        make_run(name, rows) for name in ("../../etc/x", "..", "a/b", "a b", "A\x00b", "n" * 300)
    ]
    files = write_pictures(runs, tmp_path / "png")
    assert len(set(files)) == 6 and all(file.parent == tmp_path / "png" for file in files)
    assert sorted(files) == sorted((tmp_path / "png").iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["png"]


def test_runs_without_rows_have_no_pictures(tmp_path: Path) -> None:
    assert write_pictures([make_run("random", [])], tmp_path / "png") == []


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "png").write_text("mine")
    with pytest.raises(OSError, match="png"):
        write_pictures([make_run("random", [{"epoch": 0, "ratio": 0.5}])], tmp_path / "png")
