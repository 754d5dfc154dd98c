# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a recipe may say, and what is said of one that says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from composer_dataagent.recipes import RecipeError, load_recipe
from composer_dataagent.recipes.data import DATASETS
from composer_dataagent.recipes.demo import RECIPE
from composer_dataagent.recipes.models import MODELS
from composer_dataagent.recipes.registry import check_arguments, split_name


def test_the_shipped_recipe_loads() -> None:
    recipe = load_recipe(RECIPE)
    assert recipe.run_dir == "runs/digits"
    assert recipe.algorithms == {"data_agent": {"ratio": 0.5}}


# Of recipes whose data others may share, or whose model another run trains first.
FOLDERS = {"bert_classifier": "packages", "instructions_lora": "instructions"}
SMALL = ["model.base={name: gpt2, vocab_size: 257, n_head: 2, n_embd: 8}"]
OVERRIDES = {"instructions_lora": SMALL, "llm_instructions": SMALL}


@pytest.mark.parametrize("path", sorted(RECIPE.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_names_what_there_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "s3://bucket")
    recipe = load_recipe(path, OVERRIDES.get(path.stem, []))
    assert recipe.run_name == path.stem  # tools/compare.py finds a source's recipe by it
    MODELS.build("model", *split_name("model", recipe.model))
    for loader in (recipe.train_loader, recipe.eval_loader):
        assert loader is not None
        name, arguments = split_name("dataset", loader.dataset)
        factory = DATASETS.factories[DATASETS.canonical("dataset", name)]
        check_arguments("dataset", factory, arguments)
        folder = Path(arguments["local"]).parts[1]
        assert path.stem.startswith(folder) or FOLDERS[path.stem] == folder


def test_overrides_reach_into_sections_in_order() -> None:
    recipe = load_recipe(
        RECIPE,
        [
            "run_name=third",
            "algorithms.data_agent.ratio=0.3",
            "algorithms.data_agent.ratio=0.4",
            "algorithms.label_smoothing.smoothing=0.1",
            "algorithms.ema=null",
        ],
    )
    assert recipe.run_dir == "runs/third"  # interpolated
    assert recipe.algorithms == {
        "data_agent": {"ratio": 0.4},
        "label_smoothing": {"smoothing": 0.1},
        "ema": None,
    }
    assert list(recipe.algorithms) == ["data_agent", "label_smoothing", "ema"]


def test_a_mapping_is_merged_into_a_section() -> None:
    optimizer = load_recipe(RECIPE).optimizer
    assert isinstance(optimizer, dict) and len(optimizer) > 1
    assert load_recipe(RECIPE, ["optimizer={lr: 0.5}"]).optimizer == {**optimizer, "lr": 0.5}
    replaced = load_recipe(RECIPE, ["~optimizer", "optimizer={name: sgd, lr: 0.5}"]).optimizer
    assert replaced == {"name": "sgd", "lr": 0.5}


def test_a_key_can_be_left_out() -> None:
    recipe = load_recipe(RECIPE, ["~scheduler", "~algorithms.data_agent", "algorithms.ema={}"])
    assert recipe.scheduler is None and recipe.algorithms == {"ema": {}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sede=3", r"key 'sede' is not known.*Did you mean 'seed'.*run_name"),
        ("train_loader.batchsize=3", r"train_loader: key 'batchsize'.*'batch_size'.*num_workers"),
        ("eval_loader.workers=3", r"eval_loader: key 'workers'.*num_workers"),
        ("train_loader.batch_size=many", r"train_loader\.batch_size='many'.*integer"),
        ("train_loader.batch_size=0", r"train_loader\.batch_size=0.*greater than 0"),
        ("seed=-1", r"seed=-1.*greater than or equal to 0"),
        ("seed=4294967296", r"seed=4294967296.*less than or equal to 4294967295"),
        ("algorithms=5", r"algorithms=5.*dictionary"),
        ("run_name=", r"run_name"),
        ("run_name=..", r"run_name='\.\.' is not accepted: it names a folder"),
        ("run_name=../../elsewhere", r"run_name='\.\./\.\./elsewhere'.*no slashes"),
        ("run_name='a\\\\b'", r"run_name=.*no slashes"),
        ("run_name='a{b}'", r"run_name='a\{b\}'.*no braces"),
        ('run_name="a\\nb"', r"run_name='a\\nb'.*names a folder"),
        ("algorithms.dataagent.ratio=0.3", r"algorithms=.*: 'data_agent' and 'dataagent' are one"),
        ("callbacks={lr_monitor: {}, LRMonitor: {}}", r"callbacks.*'lr_monitor' and 'LRMonitor'"),
        ("loggers={file: {}, File: {}}", r"loggers.*'file' and 'File'"),
        ("trainer", r"'trainer' is no override: write key=value"),
        ("model=null", r"model=None"),
        ("~optimizr", r"'~optimizr' leaves out a key that the recipe does not have"),
        ("~nowhere.at.all", r"'~nowhere.at.all' leaves out"),
        ("~optimizer", r"lacks optimizer"),
        ("run_dir=${nowhere}", r"nowhere"),
    ],
)
def test_bad_values_are_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        load_recipe(RECIPE, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "There is no recipe"),
        ("a: [1", "cannot be read as YAML"),
        ("- 1\n- 2\n", "must be a mapping of run_name"),
        ("run_name: x\n", r"recipe\.yaml: the recipe lacks model"),
        ("a: !!python/object/apply:os.system ['true']\n", "cannot be read as YAML"),
        ("", r"recipe\.yaml: the recipe lacks run_name"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def extending(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / "mine.yaml"


def test_a_recipe_extends_another(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "base.yaml").write_text(RECIPE.read_text())
    middle = "extends: ../base.yaml\ntrain_loader: {batch_size: 40}\n"
    (tmp_path / "below" / "middle.yaml").write_text(middle)
    mine = extending(
        tmp_path,
        mine="extends: below/middle.yaml\nrun_name: mine\noptimizer: {name: sgd, lr: 0.1}\n"
        "algorithms: {data_agent: {ratio: 0.3}, ema: {half_life: 9ba}}\n",
    )
    base, recipe = load_recipe(RECIPE), load_recipe(mine, ["seed=3"])
    assert recipe.run_name == "mine" and recipe.seed == 3
    assert recipe.run_dir == base.run_dir.replace(base.run_name, "mine")  # runs/${run_name}
    assert recipe.train_loader == base.train_loader.model_copy(update={"batch_size": 40})
    assert recipe.optimizer == {"name": "sgd", "lr": 0.1}  # another one, so nothing of the first
    assert recipe.algorithms["ema"] == {"half_life": "9ba"}
    agent = base.algorithms["data_agent"]
    assert recipe.algorithms["data_agent"] == {**(agent or {}), "ratio": 0.3}
    assert recipe.trainer == base.trainer


def test_a_recipe_leaves_out_what_the_other_has(tmp_path: Path) -> None:
    mine = extending(
        tmp_path,
        base=RECIPE.read_text(),
        middle="extends: base.yaml\nalgorithms: {ema: {half_life: 9ba}, label_smoothing: }\n",
        mine="extends: middle.yaml\n~eval_loader:\n"
        "algorithms: {~label_smoothing: , ~data_agent: }\n",
    )
    recipe = load_recipe(mine)
    assert recipe.eval_loader is None and recipe.algorithms == {"ema": {"half_life": "9ba"}}
    # Left out, and given anew: nothing of the other's arguments is kept.
    mine.write_text("extends: middle.yaml\nalgorithms: {~ema: , ema: {smoothing: 0.9}}\n")
    assert load_recipe(mine).algorithms["ema"] == {"smoothing": 0.9}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"mine": "extends: nowhere.yaml"}, "There is no recipe .*nowhere.yaml"),
        ({"mine": "extends: mine.yaml"}, "mine.yaml: extends goes round in a circle"),
        ({"mine": "extends: a.yaml", "a": "extends: mine.yaml"}, "goes round in a circle"),
        ({"mine": 'extends: "a\\0b"'}, "cannot be read"),
        ({"mine": "extends: 3"}, "extends=3 is not accepted: name another recipe's file"),
        ({"mine": "extends: ${seed}\nseed: 3"}, r"There is no recipe .*\$\{seed\}"),
        ({"mine": "extends: a.yaml", "a": "[1"}, "a.yaml cannot be read as YAML"),
        ({"mine": "run_name: ${seed"}, "mine.yaml cannot be read as YAML: no viable alternative"),
        ({"mine": "callbacks: !!set {a}"}, "mine.yaml cannot be read as YAML: Value 'set'"),
        ({"mine": "extends: a.yaml", "a": "seed: 3"}, "mine.yaml: the recipe lacks run_name"),
        ({"mine": "extends: a.yaml\n~sed:", "a": "seed: 3"}, "mine.yaml: ~sed leaves .* of seed, "),
        ({"mine": "extends: a.yaml\n~seed: 4", "a": "seed: 3"}, "nothing follows the colon"),
    ],
)
def test_what_cannot_be_extended_is_named(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(extending(tmp_path, **files))
