# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The recipes in yamls/: each says what it needs, and the one that needs GPUs trains in small."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from convert_text import main as convert_text
from PIL import Image
from streaming import MDSWriter
from write_topics import texts

from composer_dataagent.recipes import load_recipe, train
from composer_dataagent.report import read_run
from composer_dataagent.selection.schedule import size_for

YAMLS = Path(__file__).parents[2] / "yamls"


@pytest.mark.parametrize("name", sorted(path.stem for path in YAMLS.glob("*.yaml")))
def test_a_recipe_says_what_it_needs(name: str) -> None:
    comment = (YAMLS / f"{name}.yaml").read_text().split("run_name:")[0]
    assert "# Hardware: " in comment
    assert f"dataagent train yamls/{name}.yaml" in comment


def test_imagenet_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", str(tmp_path / "remote"))
    rng = np.random.default_rng(0)
    for split, count in {"train": 40, "val": 8}.items():
        columns = {"i": "int", "x": "jpeg", "y": "int"}
        with MDSWriter(out=str(tmp_path / "remote" / split), columns=columns) as writer:
            for i in range(count):
                image = Image.fromarray(rng.integers(0, 256, (280, 300, 3), np.uint8))
                writer.write({"i": i, "x": image, "y": int(rng.integers(1000))})
    recipe = load_recipe(
        YAMLS / "imagenet_resnet50.yaml",
        [
            f"run_dir={tmp_path / 'run'}",
            "model.name=small_cnn",
            "model.in_channels=3",
            f"train_loader.dataset.local={tmp_path / 'local' / 'train'}",
            f"eval_loader.dataset.local={tmp_path / 'local' / 'val'}",
            "train_loader.batch_size=8",
            "train_loader.num_workers=0",
            "train_loader.persistent_workers=false",
            "train_loader.pin_memory=false",
            "eval_loader.batch_size=8",
            "eval_loader.num_workers=0",
            "scheduler.t_warmup=1ep",
            "trainer.max_duration=3ep",
            "trainer.device=cpu",
            "trainer.precision=fp32",
            "trainer.progress_bar=false",
        ],
    )
    train(recipe)
    assert [row["selected"] for row in read_run(tmp_path / "run").rows] == [40, 24, 24]


def test_the_causal_language_model_in_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for split, documents in texts().items():
        lines = [json.dumps({"text": text}) + "\n" for text in documents[:8]]
        path = tmp_path / f"{split}.jsonl"
        path.write_text("".join(lines))
        result = CliRunner().invoke(
            convert_text, [str(path), "--out", f"data/causal_lm/{split}", "--length", "128"]
        )
        assert result.exit_code == 0, result.output
    small = [
        "model.n_embd=16",
        "trainer.max_duration=3ep",
        "trainer.progress_bar=false",
        "algorithms.data_agent={ratio: 0.5, signals: {max_tokens: 64}}",
    ]
    train(load_recipe(YAMLS / "causal_lm.yaml", small))
    rows = read_run(tmp_path / "runs" / "causal_lm").rows
    full = rows[0]["selected"]
    assert [row["selected"] for row in rows] == [full, *[size_for(0.5, full)] * 2]
    losses = [row["metrics"]["eval/LanguageCrossEntropy"] for row in rows]
    assert losses[-1] < losses[0] < np.log(257)
