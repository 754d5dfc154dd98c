# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""From a folder of images to a trained model, as the commands of the manual do it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import inspect_shards
from click.testing import CliRunner
from image_files import NAMES, converted, image_folder

from composer_dataagent.report import read_run


def test_what_convert_writes_is_trained_on(tmp_path: Path) -> None:
    image_folder(tmp_path / "photos" / "train", "train", 240, "JPEG")
    image_folder(tmp_path / "photos" / "val", "eval", 200)
    converted("folder", tmp_path / "photos", "--out", tmp_path / "data", "--shard-mb", 0.05)
    run_dir = tmp_path / "run"
    overrides = [f"run_dir={run_dir}", "trainer.device=cpu", "trainer.progress_bar=false"]
    command = [sys.executable, "-m", "composer_dataagent", "train", tmp_path / "data/recipe.yaml"]
    done = subprocess.run([*command, *overrides], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = read_run(run_dir)
    full, *pruned = [row["selected"] for row in run.rows]
    assert full == 240 and {*pruned} == {120}
    assert run.rows[-1]["metrics"]["eval/MulticlassAccuracy"] > 0.8
    assert [run.class_name(label) for label in range(10)] == NAMES

    looked = CliRunner().invoke(inspect_shards.main, [str(run_dir), "--json"])
    (facts,) = json.loads(looked.output)
    assert facts["finished"] and facts["samples_trained"] == 240 + 120 * len(pruned)
    assert facts["final"] == run.rows[-1]["metrics"]["eval/MulticlassAccuracy"]
    assert facts["train_data"] == f"image_classification {tmp_path / 'data' / 'train'}"
    assert facts["model"] == "resnet8" and facts["checkpoints"]
