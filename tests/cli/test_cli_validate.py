# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether recipes would train is said without training, or by a trial in small."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from own_mounts import OWN_SHARED_MEMORY, apart

from composer_dataagent.cli import main
from composer_dataagent.recipes.demo import RECIPE
from composer_dataagent.recipes.digits import prepare_digits
from composer_dataagent.recipes.synthetic import write_synthetic
from composer_dataagent.recipes.validate import load_for_validation
from composer_dataagent.selection.schedule import size_for

YAMLS = sorted((Path(__file__).parents[2] / "yamls").glob("*.yaml"))
Invoke = Callable[..., Any]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """In an empty folder, where no recipe's data are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA", raising=False)
    return lambda *arguments: CliRunner().invoke(main, ["validate", *map(str, arguments)])


def lines(result: Any) -> list[str]:
    return [line for line in result.output.splitlines() if line.startswith(("right", "wrong"))]


def test_recipes_are_looked_at_without_their_data(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke(RECIPE.parent / "imagenet_resnet50-fast.yaml")
    assert result.exit_code == 0, result.output
    assert "$DATA is not set" in result.output and "DATA" not in os.environ
    assert "data not looked at: $DATA/train, $DATA/val" in result.output
    assert not list(tmp_path.iterdir())  # nothing is written


# Parts of a test that takes a minute would be no quicker.
def test_all_shipped_recipes_train_in_small(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke(*YAMLS, "--smoke")
    assert result.exit_code == 0, result.output
    assert "DATA" not in os.environ
    for path, line in zip(YAMLS, lines(result), strict=True):
        assert line.startswith(f"right  {path} (")
        ratio = (load_for_validation(path)[0].algorithms["data_agent"] or {})["ratio"]
        assert f"trained epochs of 12 and {size_for(ratio, 12)} random samples" in line
    assert "runs/base is not here: a small model with random weights in its place" in result.output
    assert not list(tmp_path.iterdir())


def test_data_that_are_there_are_looked_at(invoke: Invoke, tmp_path: Path) -> None:
    digits = prepare_digits(tmp_path / "digits")
    data = [f"{key}_loader.dataset.local={digits / key}" for key in ("train", "eval")]
    result = invoke(RECIPE, *data)
    assert result.exit_code == 0 and lines(result) == [f"right  {RECIPE}"]
    result = invoke(RECIPE, *data, "train_loader.dataset.image=pixels")
    assert result.exit_code == 1
    assert "image='pixels' is no column of the shards" in result.output


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sede=1", "Did you mean 'seed'?"),
        ("model.num_clases=3", "Did you mean 'num_classes'?"),
        ("optimizer.lr=high", "optimizer.lr='high' is not accepted"),
        ("scheduler=cosine_anealing", "Did you mean 'cosine_annealing'?"),
        ("algorithms.data_agent.ratio=1.5", "ratio=1.5 is not accepted"),
        ("algorithms.blurpol={}", "Did you mean 'blurpool'?"),
        ("trainer.max_duration=soon", "trainer.max_duration='soon' is not accepted"),
        ("train_loader.dataset.remot=s3://x", "Did you mean 'remote'?"),
        ("trainer.max_durations=3ep", "Did you mean 'max_duration'?"),
    ],
)
def test_what_is_wrong_is_named(invoke: Invoke, override: str, message: str) -> None:
    result = invoke(RECIPE, override)
    assert result.exit_code == 1 and message in result.output
    assert lines(result)[0].startswith(f"wrong  {RECIPE}")
    assert "1 of 1 recipes would not train" in result.output


def test_what_only_training_shows_is_found_by_a_trial(invoke: Invoke) -> None:
    """Composer's Trainer refuses it, or the model does."""
    for override, message in {
        "model={name: tiny_vit, image_size: 28, patch_size: 7, num_classes: 10}": "",
        "trainer.save_metrics=maybe": "save_metrics",
        "train_loader.dataset.transforms=[{name: grayscale, num_output_channels: 3}]": (
            "The model takes no images of 1 channels"
        ),
        "algorithms.seq_length_warmup={}": "The run cannot start",
    }.items():
        result = invoke(RECIPE, override, "--smoke")
        assert (result.exit_code == 1) == bool(message), result.output
        assert message in result.output


@pytest.mark.parametrize(
    "override",
    [
        "algorithms.data_agent={ratio: 0.1, interval: 0.05ep}",
        "algorithms.data_agent={ratio: 0.02, fetch: samples}",
        "trainer.max_duration=1ba",
        "trainer={device: gpu, precision: amp_bf16, device_train_microbatch_size: auto}",
        "train_loader={num_workers: 3, persistent_workers: true, prefetch_factor: 2}",
        "train_loader.dataset={remote: 's3://nowhere/at/all', cache_limit: 3gb, local: x}",
        "callbacks={speed_monitor: {window_size: 5}, lr_monitor: {}}",
        "~algorithms.data_agent",
    ],
)
def test_a_trial_does_what_a_cpu_can(invoke: Invoke, override: str) -> None:
    result = invoke(RECIPE, override, "--smoke")
    assert result.exit_code == 0, result.output


def test_a_trial_of_as_many_channels_as_no_png_has(invoke: Invoke) -> None:
    model = "model={name: cifar_resnet18, num_classes: 10, in_channels: 5}"
    elsewhere = ["train_loader.dataset.local=x", "eval_loader.dataset.local=x"]
    result = invoke(RECIPE, model, *elsewhere, "--smoke")
    assert result.exit_code == 0, result.output


def test_a_trial_leaves_the_users_files_alone(invoke: Invoke, tmp_path: Path) -> None:
    mine = tmp_path / "exported.pt"
    mine.write_text("precious")
    result = invoke(
        RECIPE,
        "callbacks.checkpoint_saver={}",
        f"callbacks.export_for_inference={{save_format: torchscript, save_path: {mine}}}",
        f"algorithms.data_agent.run_dir={tmp_path / 'history'}",
        "--smoke",
    )
    assert result.exit_code == 0, result.output
    assert "tried without callbacks.checkpoint_saver, callbacks.export_for_inf" in result.output
    assert mine.read_text() == "precious" and list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("~train_loader.dataset.local", "needs `local`"),
        ("train_loader.dataset.local=.", "holds no MDS shards"),
        ("trainer.device=gpuu", "trainer.device='gpuu' is not accepted"),
        ("run_dir=/proc/x", "run_dir: /proc cannot be written"),
        ("algorithms.data_agent.ratio=0.000001", "would take 1,000,000 steps"),
    ],
)
def test_what_is_wrong_with_places_and_words(invoke: Invoke, override: str, message: str) -> None:
    result = invoke(RECIPE, override, "--smoke")
    assert result.exit_code == 1 and message in result.output


def test_recipes_and_overrides_are_told_apart(invoke: Invoke, tmp_path: Path) -> None:
    odd = tmp_path / "lr=1.yaml"
    odd.write_text(RECIPE.read_text())
    assert lines(invoke("seed=3", odd, RECIPE))[1].startswith(f"right  {RECIPE}")
    result = invoke("seed=3")
    assert result.exit_code == 2 and "name at least one recipe" in result.output
    result = invoke("nowhere.yaml", RECIPE)
    assert result.exit_code == 1
    assert "There is no recipe 'nowhere.yaml'" in lines(result)[0]
    assert "1 of 2 recipes would not train" in result.output


def test_synthetic_images_are_of_the_size_that_the_model_takes(tmp_path: Path) -> None:
    from streaming import StreamingDataset

    from composer_dataagent.recipes.models import MODELS

    model = MODELS.build(
        "model", "tiny_vit", {"num_classes": 3, "image_size": 64, "patch_size": 8, "in_channels": 3}
    )
    write_synthetic(tmp_path / "x", "ImageClassification", {"image": "pixels"}, model, 5)
    dataset = StreamingDataset(local=str(tmp_path / "x"), batch_size=1)
    sizes = {sample["pixels"].size for sample in dataset}
    assert sizes == {(64, 64)} and len(dataset) == 5
    assert all(0 <= sample["label"] < 3 for sample in dataset)


def test_samples_are_shown_to_the_model(invoke: Invoke, tmp_path: Path) -> None:
    digits = prepare_digits(tmp_path / "digits")
    data = [f"{key}_loader.dataset.local={digits / key}" for key in ("train", "eval")]
    for override, message in {
        "model.num_classes=7": r"has the label \d, and the model the classes 0 to 6: give another",
        "model.in_channels=3": r"the model does not take its samples, which are \[1, 8, 8\]",
        "train_loader.dataset.transforms=[{name: random_crop, size: 9}]": r"Required crop size",
    }.items():
        result = invoke(RECIPE, *data, override)
        assert result.exit_code == 1 and re.search(f"train_loader.*{message}", result.output)


def test_many_recipes_do_not_run_out_of_open_files(tmp_path: Path) -> None:
    digits = prepare_digits(tmp_path / "digits")
    recipes = []
    for i in range(10):
        recipes.append(tmp_path / f"recipe{i}.yaml")
        recipes[-1].write_text(RECIPE.read_text())
    # Of a machine that has no datasets yet: each that is there costs a dataset that comes a file.
    own = apart(OWN_SHARED_MEMORY)
    few = "import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512)); "
    few += "runpy.run_module('composer_dataagent', run_name='__main__')"
    data = [f"{key}_loader.dataset.local={digits / key}" for key in ("train", "eval")]
    result = subprocess.run(
        [*own, sys.executable, "-c", few, "validate", *map(str, recipes), *data],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.stdout.splitlines() == [f"right  {path}" for path in recipes], result.stderr
