# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Hugging Face's image classifiers, from a folder on this machine, in recipes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from click.testing import CliRunner
from composer.models import ComposerClassifier
from safetensors.torch import load_file, save_file

from composer_dataagent.cli import main
from composer_dataagent.recipes import Recipe, RecipeError, build_trainer, train
from composer_dataagent.recipes.demo import RECIPE
from composer_dataagent.recipes.models import MODELS
from composer_dataagent.report import read_run

NAME = "pretrained_image_classifier"
WIDTHS = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}
THIN = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = {"image_size": 28, "patch_size": 14, "intermediate_size": 64, **THIN}


def saved(folder: Path, family: str = "ResNet", num_labels: int = 10) -> Path:
    """A folder as ``save_pretrained`` writes it."""
    sizes = {"ResNet": {**WIDTHS, "layer_type": "basic"}, "ViT": SMALL}[family]
    config = getattr(transformers, f"{family}Config")(num_labels=num_labels, **sizes)
    torch.manual_seed(3)
    getattr(transformers, f"{family}ForImageClassification")(config).save_pretrained(folder)
    return folder


def build(folder: Path, num_classes: int = 10) -> ComposerClassifier:
    arguments = {"pretrained": str(folder), "num_classes": num_classes}
    model = MODELS.build("model", NAME, arguments)
    assert isinstance(model, ComposerClassifier)
    return model


@pytest.mark.parametrize("family", ["ResNet", "ViT"])
def test_weights_are_those_of_the_folder(tmp_path: Path, family: str) -> None:
    folder = saved(tmp_path / "model", family)
    images = torch.rand(2, 3, 28, 28, generator=torch.manual_seed(1))
    theirs = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = theirs(pixel_values=images).logits
        assert torch.equal(build(folder).eval()((images, torch.zeros(2))), expected)
        # Of other classes, the classifier is a new one, and all before it is the folder's.
        other = build(folder, 7).eval()
        assert other((images, torch.zeros(2))).shape == (2, 7)
    kept = {name.removeprefix("module.model."): w for name, w in other.state_dict().items()}
    differing = [n for n, w in theirs.state_dict().items() if not torch.equal(w, kept[n])]
    assert {name.split(".")[0] for name in differing} == {"classifier"}


def test_a_recipe_trains_one(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", num_labels=3)
    made = recipe(
        "trainer.max_duration=2ep",
        f"model={{name: {NAME}, pretrained: '{folder}', num_classes: 10}}",
        "train_loader.dataset.transforms=[rgb]",
        "eval_loader.dataset.transforms=[rgb]",
        "train_loader.batch_size=64",
    )
    run_dir = train(made)
    assert run_dir is not None
    rows = read_run(run_dir).rows
    assert [row["selected"] for row in rows] == [1437, 719]
    assert rows[-1]["metrics"]["eval/MulticlassAccuracy"] > 0.5


def edit(folder: Path, **entries: object) -> Path:
    """Replace entries of a saved model's configuration."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | entries))
    return folder


def test_what_mixes_images_goes_with_one(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    folder = edit(saved(tmp_path / "model"), problem_type="multi_label_classification")
    made = recipe(
        "trainer.max_duration=2ba",
        f"model={{name: {NAME}, pretrained: '{folder}', num_classes: 10}}",
        "train_loader.dataset.transforms=[rgb]",
        "algorithms={label_smoothing: {smoothing: 0.1}, mixup: {alpha: 0.2}}",
        "~eval_loader",
    )
    trainer = build_trainer(made)
    trainer.fit()
    assert int(trainer.state.timestamp.batch) == 2
    trainer.close()


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    # Its own, under other names: as a compiled model's are saved.
    renamed = saved(tmp_path / "renamed") / "model.safetensors"
    weights = {f"_orig_mod.{name}": weight for name, weight in load_file(renamed).items()}
    save_file(weights, renamed, {"format": "pt"})
    with pytest.raises(RecipeError, match=r"of the 74 weights .* 74 are not there and 0 have"):
        build(renamed.parent)
    wider = edit(saved(tmp_path / "wider", "ViT"), hidden_size=64)
    with pytest.raises(RecipeError, match=r"of the 40 weights .* 0 are not there and 37 have"):
        build(wider)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_damaged_weights_name_their_folder(tmp_path: Path, name: str) -> None:
    folder = saved(tmp_path / "model")
    weights = (folder / "model.safetensors").rename(folder / name)
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(RecipeError, match=f"'{folder}' cannot be loaded as a model for"):
        build(folder)


def test_no_code_of_a_model_is_run_and_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Model"}
    folder = edit(saved(tmp_path / "model"), model_type="mine", auto_map=names)
    (folder / "own.py").write_text(
        f"open({str(tmp_path / 'was_run')!r}, 'w')\n"
        "from transformers import ResNetConfig, ResNetForImageClassification\n"
        "class Config(ResNetConfig):\n    model_type = 'mine'\n"
        "class Model(ResNetForImageClassification):\n    config_class = Config\n"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("y\ny\n"))
    with pytest.raises(RecipeError, match="code that comes with a model"):
        build(folder)
    assert not (tmp_path / "was_run").exists()


def test_what_is_no_such_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="give a folder that save_pretrained wrote"):
        build(tmp_path / "nowhere")
    config = transformers.BertConfig(32, 32, 2, 2, 64)
    transformers.BertModel(config).save_pretrained(tmp_path / "text")
    with pytest.raises(RecipeError, match="cannot be loaded as a model for ImageClassification"):
        build(tmp_path / "text")
    with pytest.raises(RecipeError, match="num_classes=1"):
        build(saved(tmp_path / "model"), 1)


def test_a_recipe_is_looked_at_without_its_model(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    transforms = "[rgb, {name: resize, size: 28}]"
    path.write_text(
        f"extends: {RECIPE.resolve()}\nrun_dir: {tmp_path}/run\n"
        f"model: {{name: {NAME}, pretrained: {tmp_path}/absent, num_classes: 10}}\n"
        f"train_loader: {{dataset: {{local: {digits}/train, transforms: {transforms}}}}}\n"
        f"eval_loader: {{dataset: {{local: {digits}/eval, transforms: {transforms}}}}}\n"
    )
    result = CliRunner().invoke(main, ["validate", str(path), "--smoke"])
    assert result.exit_code == 0, result.output
    assert "absent is not here: a small model with random weights in its place" in result.output
    saved(tmp_path / "absent", "ViT")
    result = CliRunner().invoke(main, ["validate", str(path), "--smoke"])
    assert result.exit_code == 0 and "is not here" not in result.output, result.output
