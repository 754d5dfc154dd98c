# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a plan says is what a run downloads; what is wrong with its arguments is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.dom import minidom

import numpy as np
import pytest
from click.testing import CliRunner
from mds_samples import NUM_SAMPLES, SHARDS, make_dataset, write_shards
from parsed_page import ParsedPage
from streaming import MDSWriter

from composer_dataagent import clear, select
from composer_dataagent.cli import main
from composer_dataagent.recipes.demo import RECIPE
from composer_dataagent.streaming import Costs, attach
from composer_dataagent.streaming.forecast import MODES, draw_ids

Invoke = Callable[..., Any]


@pytest.fixture
def invoke() -> Invoke:
    return lambda *arguments: CliRunner().invoke(main, ["plan", *map(str, arguments)])


@pytest.fixture
def figures(invoke: Invoke) -> Invoke:
    def run(*arguments: object) -> dict[str, Any]:
        result = invoke(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    return run


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_shards(tmp_path_factory.mktemp("shards"))


def downloaded(local: Path) -> int:
    """Bytes of the shards that are in a cache, as they came."""
    files = [path for path in local.rglob("shard.*") if path.is_file()]
    zipped = [path for path in files if path.suffix == ".zstd"]
    return sum(path.stat().st_size for path in zipped or files)


# Streaming leaves the compressed files that it read to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*zstd:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file .*zstd:ResourceWarning")
@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("writer", [{}, {"compression": "zstd"}], ids=["plain", "zipped"])
def test_a_plan_is_what_a_run_downloads(
    figures: Invoke, tmp_path: Path, writer: dict[str, Any], warmup: int
) -> None:
    """Epoch by epoch, with the selections that were planned, small enough to leave shards out."""
    remote, local, ratio, epochs = write_shards(tmp_path / "remote", **writer), "local", 0.04, 4
    found = figures(remote, "--ratio", ratio, "--epochs", epochs, "--warmup", warmup)
    dataset = make_dataset(None, remote=remote, local=str(tmp_path / local), keep_zip=True)
    seen, by_epoch, been = 0, [], np.zeros(NUM_SAMPLES, bool)
    for epoch in range(epochs):
        if epoch < warmup:
            clear(dataset)
            been[:] = True
        else:
            ids = draw_ids(NUM_SAMPLES, ratio, 0, epoch, been)
            select(dataset, ids)
            been[ids] = True
        for _ in dataset:
            pass
        by_epoch.append(downloaded(tmp_path / local) - seen)
        seen = downloaded(tmp_path / local)
    assert found["bytes_by_epoch"]["shards"] == by_epoch
    assert found["modes"]["shards"]["bytes"] == seen
    if warmup:
        assert seen == found["bytes"]
    else:
        assert 0 < by_epoch[0] < seen < found["bytes"] and by_epoch[1]


@pytest.mark.parametrize("gap", [0, 20_000], ids=["single", "merged"])
def test_a_plan_is_what_a_run_downloads_by_ranges(
    figures: Invoke, tmp_path: Path, gap: int
) -> None:
    remote, ratio, epochs, count = str(tmp_path / "remote"), 0.3, 4, 300
    rng = np.random.default_rng(0)
    with MDSWriter(out=remote, columns={"x": "bytes"}, size_limit=200_000) as out:
        for _ in range(count):
            out.write({"x": rng.bytes(8_000)})
    price = gap * 1e6 / 1e9 * Costs().dollars_per_gb
    found = figures(
        *(remote, "--ratio", ratio, "--epochs", epochs, "--warmup", 0),
        *("--dollars-per-million-requests", price),
    )
    dataset = make_dataset(None, remote=remote, local=str(tmp_path / "local"))
    costs = {"dollars_per_million_requests": price}
    attachment = attach(dataset, fetch="samples", costs=costs)
    by_epoch, been = [], np.zeros(count, bool)
    for epoch in range(epochs):
        before = attachment.egress().bytes
        ids = draw_ids(count, ratio, 0, epoch, been)
        attachment.serve(ids)
        been[ids] = True
        for _ in dataset:
            pass
        by_epoch.append(attachment.egress().bytes - before)
    # The text that a header ends with is not in the index.
    assert found["bytes_by_epoch"]["samples"] == pytest.approx(by_epoch, rel=0.01)
    assert found["modes"]["samples"]["requests"] == attachment.egress().requests
    # Unseen samples come first: after three epochs and a third everything was there.
    assert 0 < by_epoch[-1] < by_epoch[0] < found["bytes"]
    assert sum(by_epoch) >= 0.99 * found["bytes"]


def test_figures_fit_one_another(figures: Invoke, shards: str) -> None:
    found = figures(
        *(shards, "--ratio", 0.3, "--epochs", 5, "--warmup", 2, "--cache-limit", 0),
        *("--dollars-per-gb", 0.05, "--dollars-per-million-requests", 2, "--bandwidth", "1mb"),
        *("--latency", 0.5, "--nodes", 2, "--workers", 4),
    )
    stored = sum(path.stat().st_size for path in Path(shards).glob("*.mds"))
    assert (found["bytes"], found["samples"]) == (stored, NUM_SAMPLES)
    assert found["shards"] == found["simulated_shards"] == len(SHARDS)
    full = found["modes"]["full"]
    assert full["bytes"] == 5 * stored and full["requests"] == 5 * 2 * len(SHARDS)
    for mode in MODES:
        of_mode, by_epoch = found["modes"][mode], found["bytes_by_epoch"][mode]
        assert by_epoch[:2] == [stored, stored]
        assert of_mode["first_epoch_bytes"] == by_epoch[0]
        assert of_mode["later_epoch_bytes"] == sum(by_epoch[1:]) / 4
        assert of_mode["bytes"] == sum(by_epoch)
        dollars = of_mode["bytes"] * 0.05e-9 + of_mode["requests"] * 2e-6
        assert of_mode["dollars"] == pytest.approx(dollars)
        seconds = of_mode["bytes"] / 2**20 + of_mode["requests"] * 0.5 / 64
        assert of_mode["seconds"] == pytest.approx(seconds / 8)
        assert len(found["share_by_ratio"][mode]) == len(found["share_by_ratio"]["ratio"])


def test_the_table_the_page_and_the_picture(invoke: Invoke, shards: str, tmp_path: Path) -> None:
    page, picture = tmp_path / "new" / "plan.html", tmp_path / "plan.svg"
    result = invoke(shards, "--out", page)
    assert result.exit_code == 0, result.output
    assert f"Page: {page}" in result.output
    assert "97 samples" in result.output and "10 epochs at ratio 0.5" in result.output
    modes = ("full data", "whole shards", "ranges of samples", "selection of whole shards")
    parsed = ParsedPage(page)
    (text,) = parsed.texts["body"]
    for mode in modes:
        assert mode in result.output and mode in text
    assert len(parsed.all("svg")) == 2 and not parsed.all("script") + parsed.all("link")
    for shown in (result.output, text):
        assert "later ones fetch nothing" in shown  # a full first epoch that is kept

    assert invoke(shards, "--out", picture).exit_code == 0
    svg = minidom.parse(str(picture)).documentElement
    assert svg is not None and svg.tagName == "svg"
    assert "currentColor" in picture.read_text() and "color:#" in svg.getAttribute("style")


def test_of_a_recipe(figures: Invoke, shards: str) -> None:
    data = f"train_loader.dataset.local={shards}"
    found = figures(RECIPE, data)
    assert (found["epochs"], found["ratio"], found["warmup_epochs"]) == (12, 0.5, 1)
    assert (found["seed"], found["workers"], found["cache_limit"]) == (17, 1, None)
    changed = figures(
        *(RECIPE, data, "algorithms.data_agent.ratio=0.3", "train_loader.num_workers=2"),
        *("train_loader.dataset.cache_limit=1mb", "algorithms.data_agent.anneal=0.25", "seed=3"),
    )
    assert (changed["ratio"], changed["workers"], changed["cache_limit"]) == (0.3, 2, 1 << 20)
    assert (changed["anneal"], changed["seed"]) == (0.25, 3)
    unlimited = figures(RECIPE, data, "train_loader.dataset.cache_limit=0")
    assert unlimited["cache_limit"] is None  # as StreamingDataset takes it
    over = figures(RECIPE, data, "--ratio", 0.2, "--epochs", 3, "--warmup", 0, "--cache-limit", 0)
    assert (over["ratio"], over["epochs"], over["warmup_epochs"]) == (0.2, 3, 0)
    same = figures(shards, "--epochs", 12, "--seed", 17)
    assert same["bytes_by_epoch"] == found["bytes_by_epoch"]


@pytest.mark.parametrize(
    ("duration", "epochs"),
    # 97 samples in 16 batches of 6 and one of 1; at ratio 0.5, after a full epoch, 49 in 9.
    [("4ep", 4), ("17ba", 1), ("18ba", 2), ("35ba", 3), ("36ba", 4), ("97sp", 1), ("98sp", 2)],
)
def test_a_duration_of_a_recipe(figures: Invoke, shards: str, duration: str, epochs: int) -> None:
    data = f"train_loader.dataset.local={shards}"
    more = "train_loader.batch_size=6", f"trainer.max_duration={duration}"
    assert figures(RECIPE, data, *more)["epochs"] == epochs


def test_a_recipe_tells_prices_and_how_is_selected(
    figures: Invoke, invoke: Invoke, shards: str
) -> None:
    data = f"train_loader.dataset.local={shards}"
    agent = "algorithms.data_agent"
    free = figures(RECIPE, data, f"{agent}.costs={{dollars_per_gb: 0}}")
    # Where bytes are free, all comes whole; an option says otherwise.
    assert free["bytes_by_epoch"]["samples"] == free["bytes_by_epoch"]["shards"]
    assert free["costs"]["dollars_per_gb"] == 0
    assert figures(RECIPE, data, "--dollars-per-gb", 0.5)["costs"]["dollars_per_gb"] == 0.5
    assert figures(RECIPE, data, "--concurrency", 3)["costs"]["concurrency"] == 3
    assert "Prices: $0 per" in invoke(RECIPE, data, f"{agent}.costs={{dollars_per_gb: 0}}").output

    def notes(selector: str) -> str:
        cold = "--warmup", 0, "--ratio", 0.3
        return " ".join(figures(RECIPE, data, f"{agent}.selector={selector}", *cold)["notes"])

    assert "comes first" in notes("entropy") and "had its turn" in notes("entropy")
    assert "comes first" not in notes("random") and "had its turn" not in notes("random")
    assert "egress_weight is not simulated" in notes("{name: random, egress_weight: 0.3}")


def test_a_recipe_that_serves_everything(figures: Invoke, shards: str) -> None:
    data = f"train_loader.dataset.local={shards}"
    assert figures(RECIPE, data, "algorithms.data_agent.selector=full")["ratio"] == 1


def test_that_all_is_kept_saves_no_later_epoch_of_another_node(
    figures: Invoke, shards: str
) -> None:
    notes = {n: " ".join(figures(shards, "--nodes", n)["notes"]) for n in (1, 2)}
    assert "later ones fetch nothing" in notes[1] and "another part" not in notes[1]
    assert "later ones fetch nothing" not in notes[2] and "another part" in notes[2]


def test_what_comes_in_parts_is_told(figures: Invoke, tmp_path: Path) -> None:
    remote = str(tmp_path)
    with MDSWriter(out=remote, columns={"x": "bytes"}, size_limit=20_000) as out:
        for _ in range(300):
            out.write({"x": bytes(900)})
    found = figures(remote, "--cache-limit", 100_000, "--dollars-per-million-requests", 0)
    (note,) = (note for note in found["notes"] if "in several parts" in note)
    most = int(note.split("about ")[1].split()[0].replace(",", ""))
    assert most == 300 + 9 * 150 + 10 * found["shards"]
    assert most > found["modes"]["samples"]["requests"]


def test_what_cannot_be_read_by_ranges_is_told(
    figures: Invoke, tmp_path: Path, shards: str
) -> None:
    zipped = write_shards(tmp_path / "zipped", compression="zstd", hashes=["sha1"])
    found = figures(zipped, "--cache-limit", 0)
    assert found["bytes_not_ranged"] == found["bytes"]
    assert found["bytes_by_epoch"]["samples"] == found["bytes_by_epoch"]["shards"]
    (note,) = (note for note in found["notes"] if "always fetched whole" in note)
    assert note.startswith("100.0 % of the bytes are in shards that are compressed")
    assert not any("whole:" in note for note in figures(shards)["notes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "There is no nowhere/index.json: name the folder or URL"),
        (["SHARDS", "--split", "train"], "train/index.json: name the folder or URL"),
        (["SHARDS", "--ratio", "1.5"], "ratio=1.5 is not accepted; it must be in (0, 1]"),
        (["SHARDS", "--warmup", "-1"], "warmup_epochs=-1 is not accepted"),
        (["SHARDS", "--anneal", "1"], "anneal=1.0 is not accepted"),
        (["SHARDS", "--cache-limit", "much"], "cache_limit='much' is not accepted"),
        (["SHARDS", "--cache-limit", "1kb"], "cache_limit=1024 is too small"),
        (["SHARDS", "--bandwidth", "0"], "bandwidth=0 is not accepted; it must be a number > 0"),
        (["SHARDS", "--dollars-per-gb", "-1"], "dollars_per_gb=-1.0 is not accepted"),
        (["SHARDS", "--out", "plan.png"], "plan.png is not accepted; it must end with one of"),
        (["SHARDS", "--out", "/dev/null/plan.svg"], "/dev/null"),
        (["SHARDS", "seed=3"], "'seed=3' is for recipes"),
        (["nowhere.yaml"], "There is no recipe 'nowhere.yaml'"),
        ([RECIPE, "sede=1"], "Did you mean 'seed'?"),
        ([RECIPE, "~algorithms.data_agent"], "The recipe has no data_agent"),
        ([RECIPE, "algorithms.data_agent.interval=0.1ep"], "plan knows epochs, not rounds"),
        ([RECIPE, "algorithms.data_agent.ratio=2"], "ratio=2 is not accepted"),
        ([RECIPE, "trainer.max_duration=5tok", "DATA"], "give --epochs"),
        ([RECIPE, "~trainer.max_duration"], "The recipe lacks trainer.max_duration"),
        ([RECIPE, "~train_loader.dataset.local"], "train_loader.dataset needs `local`, `remote`"),
    ],
)
def test_mistakes_get_one_line(
    invoke: Invoke,
    arguments: list[Any],
    message: str,
    shards: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"SHARDS": shards, "DATA": f"train_loader.dataset.local={shards}"}
    result = invoke(*(given.get(each, each) for each in arguments))
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert line.startswith("Error: ") and message in line
