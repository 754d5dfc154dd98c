# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The recipes in yamls/: each says what it needs, and the one that needs GPUs trains in small."""

from __future__ import annotations

import json
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.ma.core
import pytest
import torch.functional
from click.testing import CliRunner
from comparison.passages import passages_of
from convert_text import main as convert_text
from PIL import Image
from streaming import MDSWriter
from write_instructions import pairs_of
from write_topics import texts

from composer_dataagent.recipes import load_recipe, train
from composer_dataagent.report import read_run
from composer_dataagent.selection.schedule import size_for

YAMLS = Path(__file__).parents[2] / "yamls"


@pytest.mark.parametrize("name", sorted(path.stem for path in YAMLS.glob("*.yaml")))
def test_a_recipe_says_what_it_needs(name: str) -> None:
    comment = (YAMLS / f"{name}.yaml").read_text().split("run_name:")[0]
    assert "# Hardware: " in comment and "Time: " in comment
    assert f"dataagent train yamls/{name}.yaml" in comment


def test_imagenet_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", str(tmp_path / "remote"))
    rng = np.random.default_rng(0)
    for split, count in {"train": 20, "val": 4}.items():
        columns = {"i": "int", "image": "jpeg", "label": "int"}
        with MDSWriter(out=str(tmp_path / "remote" / split), columns=columns) as writer:
            for i in range(count):
                # As in ImageNet, where some are grey.
                shape = (280, 300) if i % 3 == 0 else (280, 300, 3)
                image = Image.fromarray(rng.integers(0, 256, shape, np.uint8))
                writer.write({"i": i, "image": image, "label": int(rng.integers(1000))})
    recipe = load_recipe(
        YAMLS / "imagenet_resnet50.yaml",
        [
            f"run_dir={tmp_path / 'run'}",
            "model.name=small_cnn",
            "model.in_channels=3",
            f"train_loader.dataset.local={tmp_path / 'local' / 'train'}",
            f"eval_loader.dataset.local={tmp_path / 'local' / 'val'}",
            "train_loader.batch_size=4",
            "train_loader.num_workers=0",
            "train_loader.persistent_workers=false",
            "train_loader.pin_memory=false",
            "eval_loader.batch_size=4",
            "eval_loader.num_workers=0",
            "scheduler.t_warmup=1ep",
            "trainer.max_duration=3ep",
            "trainer.device=cpu",
            "trainer.precision=fp32",
            "trainer.progress_bar=false",
        ],
    )
    train(recipe)
    assert [row["selected"] for row in read_run(tmp_path / "run").rows] == [20, 12, 12]


def convert(rows: Sequence[Mapping[str, Any]], out: str, *options: str) -> None:
    path = Path(f"{out.replace('/', '-')}.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = CliRunner().invoke(convert_text, [str(path), "--out", out, *options])
    assert result.exit_code == 0, result.output


def test_the_causal_language_model_in_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for split, documents in texts().items():
        rows = [{"text": text} for text in documents[:8]]
        convert(rows, f"data/causal_lm/{split}", "--length", "128")
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


def test_the_classifier_of_texts_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    passages = [list(passages_of(Path(str(m.__file__)))) for m in (numpy.ma.core, torch.functional)]
    for split, part in {"train": slice(0, 60), "eval": slice(60, 80)}.items():
        rows = [
            {"text": text, "label": label}
            for label, of_module in enumerate(passages)
            for text in of_module[part]
        ]
        convert(rows, f"data/packages/{split}", "--label-key", "label", "--length", "130")
    small = ["trainer.max_duration=3ep", "trainer.progress_bar=false", "train_loader.batch_size=8"]
    train(load_recipe(YAMLS / "bert_classifier.yaml", [*small, "model.hidden_size=16"]))
    rows = read_run(tmp_path / "runs" / "bert_classifier").rows
    assert [row["selected"] for row in rows] == [120, 60, 60]
    assert all(0 <= row["label_trust"] <= 1 for row in rows)
    assert all(0 <= row["metrics"]["eval/MulticlassAccuracy"] <= 1 for row in rows)


def test_instructions_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    convert([{"text": text} for text in texts()["eval"][:4]], "data/base", "--length", "256")
    small = ["trainer.max_duration=3ep", "trainer.progress_bar=false", "train_loader.batch_size=4"]
    base = ["run_name=base", "~eval_loader", "train_loader.dataset.local=data/base"]
    size = ["model.n_positions=256", "model.n_embd=16", "model.n_layer=1"]
    train(load_recipe(YAMLS / "causal_lm.yaml", [*small, *base, *size]))
    for split, module in {"train": pathlib, "eval": shlex}.items():
        pairs = pairs_of(module.__name__, Path(str(module.__file__)).read_text())
        rows = [{"prompt": prompt, "response": response} for prompt, response in pairs]
        keys = ("--prompt-key", "prompt", "--response-key", "response")
        convert(rows, f"data/instructions/{split}", *keys, "--length", "256")
    train(load_recipe(YAMLS / "instructions_lora.yaml", small))
    rows = read_run(tmp_path / "runs" / "instructions_lora").rows
    full = rows[0]["selected"]
    assert [row["selected"] for row in rows] == [full, *[size_for(0.5, full)] * 2]
    losses = [row["metrics"]["eval/LanguageCrossEntropy"] for row in rows]
    assert losses[-1] < losses[0]
    assert all(row["label_trust"] is None for row in rows)  # there are no labels
