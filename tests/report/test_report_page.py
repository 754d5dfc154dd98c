# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The page shows what there is, leaves out what there is not, and trusts no name or sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import pytest
from parsed_page import ParsedPage
from report_rows import make_run, write_rows
from synthetic_run import write_run

from composer_dataagent.report import (
    History,
    Run,
    choose_samples,
    read_run,
    wording,
    write_page,
)

SCRIPT = "<script>alert(1)</script>"
ACCURACY = "MulticlassAccuracy against cost"
SHARDS = "Which shards are read"
EVERYONE = ["The two rewards", "Who gets selected", SHARDS, "Coverage", "Schedule"]
AGENT = ["What the policy does", "Health of the agent (PPO)"]
DOUBTED = ["Probably mislabelled samples", "Hardest samples"]
SHOWN = 24 + 12 + 12 + 12
SAMPLES = [*DOUBTED, "Most chosen samples", "Least chosen samples"]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> ParsedPage:
    """Three selectors, the agent with two seeds, and hostile names everywhere."""
    folder = tmp_path_factory.mktemp("comparison")
    names = [SCRIPT, '"><img src=x onerror=alert(1)>', r"$\frac{", "犬", "\ud800\x00", "a" * 500]
    runs = [
        write_run(folder, "full", run_name=SCRIPT, seed=0, samples=False, class_names=names),
        write_run(folder, "data_agent", seed=0, run_name="' onload='alert(1)", class_names=names),
        write_run(folder, "data_agent", seed=1, class_names=names),
        write_run(folder, "random", seed=0, run_name="of text", note=[SCRIPT, 1], ratio=0.25),
    ]
    ids = ids_to_show(runs[3])
    History(runs[3].path).write_samples({i: {"t": f"{SCRIPT} sample {i}"} for i in ids})
    runs[3] = read_run(runs[3].path)
    return ParsedPage(write_page(runs, folder / "deep" / "page.html", title=f"All {SCRIPT}"))


def ids_to_show(run: Run) -> list[int]:
    return [i for some in choose_samples(run.ledger).values() for i in some]


def headings(page: ParsedPage) -> list[str]:
    return page.texts["h3"]


def test_nothing_is_loaded_from_elsewhere(comparison: ParsedPage) -> None:
    links = {"src", "href", "xlink:href", "srcset", "data", "action", "poster"}
    targets = [
        value
        for _, attributes in comparison.elements
        for name, value in attributes.items()
        if name in links
    ]
    assert targets and all(target.startswith(("data:image/png;base64,", "#")) for target in targets)
    styles = [a.get("style", "") for _, a in comparison.elements] + comparison.texts["style"]
    assert not any("@import" in style for style in styles)
    assert all("url(#" in style for style in styles if "url(" in style)
    policy = next(a for a in comparison.all("meta") if "http-equiv" in a)
    assert policy["content"].startswith("default-src 'none'")


def test_names_and_samples_are_text(comparison: ParsedPage) -> None:
    assert not {"script", "iframe", "object", "embed", "link", "foreignobject"} & {
        tag for tag, _ in comparison.elements
    }
    events = [n for _, attributes in comparison.elements for n in attributes if n.startswith("on")]
    assert events == []
    assert comparison.texts["h1"] == comparison.texts["title"] == [f"All {SCRIPT}"]
    assert sum(SCRIPT in text for text in comparison.texts["blockquote"]) == SHOWN
    assert any(SCRIPT[:20] in text for text in comparison.texts["strong"])  # class of a sample
    assert any(SCRIPT in text for text in comparison.texts["dd"])  # a setting
    assert any(SCRIPT in text for text in comparison.texts["summary"])  # name of a run


def test_references_inside_the_page_lead_somewhere(comparison: ParsedPage) -> None:
    ids = [attributes["id"] for _, attributes in comparison.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {attributes["xlink:href"] for attributes in comparison.all("use")}
    clips = {a["clip-path"][4:-1] for _, a in comparison.elements if "clip-path" in a}
    assert used and clips and {reference[1:] for reference in used | clips} <= set(ids)


def test_accessible(comparison: ParsedPage) -> None:
    assert comparison.all("html")[0]["lang"] == "en"
    assert any(attributes.get("name") == "viewport" for attributes in comparison.all("meta"))
    pictures = comparison.all("svg")
    assert all(svg["role"] == "img" and len(svg["aria-label"]) > 10 for svg in pictures)
    assert all(image["alt"].startswith("Sample ") for image in comparison.all("img"))
    (css,) = comparison.texts["style"]
    assert "prefers-color-scheme: dark" in css


def test_every_picture_is_there_in_its_order(comparison: ParsedPage) -> None:
    rewards, classes, shards, coverage, schedule = EVERYONE
    policy, ppo = AGENT
    assert headings(comparison) == [
        ACCURACY,
        *[*EVERYONE, *DOUBTED, "Settings"],  # all samples equally often, so none is most chosen
        *[rewards, policy, classes, shards, coverage, ppo, schedule, *SAMPLES, "Settings"],
        *[*EVERYONE, *SAMPLES, "Settings"],
    ]
    assert len(comparison.all("svg")) == 1 + 5 + 7 + 5
    assert len(comparison.all("img")) == len(comparison.texts["blockquote"]) == SHOWN


def test_the_agents_run_is_open_and_one_seed_is_shown(comparison: ParsedPage) -> None:
    runs = [each for each in comparison.all("details") if each["class"] == "card"]
    assert ["open" in each for each in runs] == [False, True, False]
    assert comparison.texts["h2"] == ["full", "data_agent", "random"]


def test_the_table_has_the_summarys_numbers(tmp_path: Path) -> None:
    def run(
        selector: str, accuracy: float, samples: int, share: float, seconds: float, seed: int = 0
    ) -> Run:
        facts = {"samples_seen": samples, "share_of_full": share}
        times = {"seconds": seconds, "agent_seconds": seconds / 100}
        row = {"epoch": 0, **facts, **times, "metrics": {"Accuracy": accuracy}}
        return make_run(selector, [row], seed=seed)

    runs = [
        run("full", 0.983, 12_000, 1.0, 72.0),
        run("random", 0.96, 6_000, 0.5, 36.0),
        run("random", 0.97, 6_001, 0.5, 36.0, seed=1),
    ]
    page = ParsedPage(write_page(runs, str(tmp_path / "page.html")))
    assert page.texts["th"][-2:] == ["full", "random"]
    full, random = page.texts["td"][:7], page.texts["td"][7:]
    assert full == ["98.3 %", "0.0 points", "12,000", "100.0 %", "1 min 12 s", "1.0 %", "1"]
    assert random == [
        "96.5 % ± 0.7",
        "\N{MINUS SIGN}1.8 points",
        "6,000",
        "50.0 %",
        "36 s",
        "1.0 %",
        "2",
    ]


def test_settings_come_from_meta_and_recipe(tmp_path: Path) -> None:
    recipe = {"optimizer": {"name": SCRIPT, "lr": 0.01}}
    runs = [
        make_run("random", [], recipe=recipe, settings={"head": "fc"}),
        make_run("random", [], recipe={"optimizer": {"lr": 0.1}}),
    ]
    page = ParsedPage(write_page(runs, tmp_path / "page.html"))
    settings = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert settings["settings.head"] == "fc" and settings["optimizer.name"] == SCRIPT
    assert "1 selector, 2 runs" in page.texts["p"]


def test_a_seed_that_ran_twice_is_one_line(tmp_path: Path) -> None:
    rows = [{"epoch": e, "samples_seen": e, "metrics": {"Accuracy": 0.5}} for e in range(3)]
    runs = [make_run("random", rows, seed=0) for _ in range(2)]
    page = ParsedPage(write_page(runs, tmp_path / "page.html"))
    assert page.texts["td"][-1] == "1 (2 runs)"
    assert not any("each seed" in text for text in page.texts["p"])


def test_a_run_without_epochs(tmp_path: Path) -> None:
    write_rows(tmp_path, 0)
    page = ParsedPage(write_page([read_run(tmp_path)], tmp_path / "page.html"))
    assert headings(page) == ["Settings"] and page.all("svg") == []
    assert "No epoch is finished yet." in page.texts["p"]
    assert page.texts["td"] == [wording.UNKNOWN] * 6 + ["1"]


def test_a_run_of_one_epoch(tmp_path: Path) -> None:
    run = write_run(tmp_path, epochs=1)
    page = ParsedPage(write_page([run], tmp_path / "page.html"))
    assert set(headings(page)) == {ACCURACY, *EVERYONE, *AGENT, *DOUBTED, "Settings"}


def test_rows_with_the_least_facts(tmp_path: Path) -> None:
    """An epoch without numbers gives no picture of nothing."""
    rows = [{"epoch": 3, "difficulty": None, "ppo": {"entropy": None}, "metrics": {"a": None}}]
    runs = [make_run("random", [*rows, {"epoch": 5}])]
    page = ParsedPage(write_page(runs, tmp_path / "page.html"))
    assert headings(page) == ["Settings"] and page.all("svg") == []


def test_without_evaluation_and_with_samples_never_seen(tmp_path: Path) -> None:
    run = write_run(tmp_path, "random", epochs=2, samples=False, evaluated=False)
    run.ledger["visits"][:100] = 0
    page = ParsedPage(write_page([run], tmp_path / "page.html"))
    assert headings(page) == [*EVERYONE, *SAMPLES, "Settings"]
    never = int((run.ledger["visits"] == 0).sum())
    assert any(f"Never seen: {never} of 400 samples" in text for text in page.texts["p"])
    assert page.all("img") == []
    captions = [text for text in page.texts["figcaption"] if "id " in text]
    assert len(captions) == len(ids_to_show(run))  # still id, class, loss


def test_visits_that_are_no_numbers_of_visits(tmp_path: Path) -> None:
    run = write_run(tmp_path, "random", epochs=2)
    run.ledger["visits"][:] = -7
    page = ParsedPage(write_page([run], tmp_path / "page.html"))
    assert "Coverage" not in headings(page)


def test_many_epochs_and_classes(tmp_path: Path) -> None:
    run = write_run(tmp_path, epochs=120, classes=200, num_samples=600)
    path = write_page([run], tmp_path / "page.html")
    assert set(headings(ParsedPage(path))) == {ACCURACY, *EVERYONE, *AGENT, *SAMPLES, "Settings"}
    assert path.stat().st_size < 500_000


def test_more_selectors_than_colours(tmp_path: Path) -> None:
    rows = [{"epoch": 0, "samples_seen": 9, "metrics": {"Accuracy": 0.5}}]
    runs = [make_run(f"rule ${i}_", rows) for i in range(12)]
    page = ParsedPage(write_page(runs, tmp_path / "page.html"))
    assert [text for text in page.texts["text"] if "rule" in text] == [
        f"rule ${i}_" for i in range(12)
    ]


@pytest.mark.parametrize(
    ("names", "below"),
    [(["full", "random"], False), (["full", "long " * 8], True), ([*"abcdefghijkl"], True)],
)
def test_names_do_not_cover_the_lines(tmp_path: Path, names: list[str], below: bool) -> None:
    rows = [{"epoch": e, "samples_seen": e, "metrics": {"Accuracy": 0.5}} for e in range(3)]
    page = ParsedPage(write_page([make_run(n, rows) for n in names], tmp_path / "page.html"))
    texts = zip(page.texts["text"], page.all("text"), strict=True)
    heights = {text: float(attributes["y"]) for text, attributes in texts}
    under_the_axis = {heights[n.strip()] > heights["samples trained on"] for n in names}
    assert under_the_axis == {below}


@pytest.mark.parametrize(
    ("metric", "name", "better"),
    [
        ("eval/LanguageCrossEntropy", "LanguageCrossEntropy", ", lower is better."),
        ("held_out/LanguagePerplexity", "held_out/LanguagePerplexity", ", lower is better."),
        ("eval/MaskedAccuracy", "MaskedAccuracy", ", higher is better."),
        ("eval/Taste", "Taste", "."),
    ],
)
def test_a_metric_has_its_own_name_and_direction(
    tmp_path: Path, metric: str, name: str, better: str
) -> None:
    rows = [{"epoch": e, "samples_seen": e, "metrics": {metric: 0.75 - e / 2}} for e in range(2)]
    page = ParsedPage(write_page([make_run("random", rows)], tmp_path / "page.html"))
    assert name in page.texts["th"] and name in page.texts["dt"] and name in page.texts["text"]
    assert headings(page)[0] == f"{name} against cost"
    assert f"Further left is cheaper{better}" in page.texts["p"]
    assert page.texts["td"][0] == ("25.0 %" if "Accuracy" in name else "0.25")


@pytest.mark.parametrize(
    ("metric", "values", "where"),
    [
        ("Accuracy", [0.1, 0.90, 0.91, 0.92, 0.93], "below"),
        ("CrossEntropy", [9.0, 0.23, 0.22, 0.21, 0.2], "above"),
    ],
)
def test_a_steep_beginning_is_left_out(
    tmp_path: Path, metric: str, values: list[float], where: str
) -> None:
    rows = [
        {"epoch": e, "samples_seen": e, "metrics": {metric: value}}
        for e, value in enumerate(values)
    ]
    page = ParsedPage(write_page([make_run("random", rows)], tmp_path / "page.html"))
    assert any(f"The beginning lies {where} the picture." in text for text in page.texts["p"])


def test_the_page_is_replaced_as_a_whole_and_no_setting_leaks(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    path = tmp_path / "page.html"
    for title in ("first", "second"):
        assert write_page([make_run("random", [])], path, title=title) == path
        assert ParsedPage(path).texts["h1"] == [title]
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    assert dict(matplotlib.rcParams) == before


def test_the_same_runs_give_the_same_page(tmp_path: Path) -> None:
    run = write_run(tmp_path, epochs=2)
    pages = [write_page([run], tmp_path / f"{i}.html").read_bytes() for i in range(2)]
    assert pages[0] == pages[1]


def test_no_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one run"):
        write_page([], tmp_path / "page.html")


def test_thumbnails_in_the_page_are_those_that_were_written(tmp_path: Path) -> None:
    run = write_run(tmp_path, epochs=3)
    page = ParsedPage(write_page([run], tmp_path / "page.html"))
    ids = ids_to_show(run)
    assert [image["alt"].split()[1].rstrip(",") for image in page.all("img")] == [*map(str, ids)]
    visits = run.ledger["visits"][ids]
    captions = [text for text in page.texts["figcaption"] if "id " in text]
    assert [int(text.split(" visit")[0].split()[-1]) for text in captions] == visits.tolist()


def test_of_a_doubted_label_the_page_says_what_the_model_says(tmp_path: Path) -> None:
    run = write_run(tmp_path, epochs=3, class_names=["cat", "dog", SCRIPT], classes=3)
    page = ParsedPage(write_page([run], tmp_path / "page.html"))
    differ = run.ledger["label"] != run.ledger["predicted"]
    expected = [
        f"model: {wording.short(run.class_name(run.ledger['predicted'][i]))}"
        for i in ids_to_show(run)
        if differ[i]
    ]
    assert [text for text in page.texts["span"] if text.startswith("model: ")] == expected != []


@pytest.mark.parametrize(("counts", "shown"), [([0, 3, None, 2], ["5"]), ([0, 0], []), (["x"], [])])
def test_visits_that_were_not_finite_are_told(
    tmp_path: Path, counts: list[Any], shown: list[str]
) -> None:
    rows = [{"epoch": epoch, "nonfinite": count} for epoch, count in enumerate(counts)]
    page = ParsedPage(write_page([make_run("data_agent", rows)], tmp_path / "page.html"))
    facts = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert [facts[name] for name in facts if "NaN" in name] == shown
