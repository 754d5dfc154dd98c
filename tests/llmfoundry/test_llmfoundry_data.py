# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""llm-foundry's data sets and collators: the batches are theirs, and the ids those of its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from composer import Trainer
from convert_text import main as convert_text
from llmfoundry_runs import (
    GLOBAL_BATCH,
    LENGTH,
    MPT,
    Inputs,
    build_loader,
    build_model,
    lines_loader,
    prompts_loader,
    text_loader,
)
from torch.utils.data import DataLoader

from composer_dataagent import DataAgent
from composer_dataagent.streaming import attach

# Of llm-foundry and what it imports, while it makes models and batches.
pytestmark = pytest.mark.filterwarnings("ignore")


def loader_of(kind: str, inputs: Inputs, folder: Path, **dataset: Any) -> DataLoader:
    settings = {
        "text": lambda: text_loader(inputs),
        "prompts": lambda: prompts_loader(inputs, folder),
        "lines": lambda: lines_loader(inputs),
    }[kind]()
    given = settings["dataset"] | dataset
    settings["dataset"] = {name: value for name, value in given.items() if value is not None}
    return build_loader(inputs, settings, num_workers=0)


def assert_rows_are_those_of_their_ids(loader: DataLoader, stock: DataLoader) -> None:
    attachment = attach(loader.dataset, loader)
    selected = np.random.default_rng(1).permutation(attachment.num_samples)[:77]
    attachment.serve(selected)
    collate: Any = stock.collate_fn
    served = []
    for batch in loader:
        ids = loader.sample_ids.tolist()  # type: ignore[attr-defined]
        expected = collate([stock.dataset[i] for i in ids])
        assert batch.keys() == expected.keys()
        for key in batch:
            torch.testing.assert_close(batch[key], expected[key], rtol=0, atol=0)
        served += ids
    assert sorted(served) == sorted(selected.tolist())


@pytest.mark.parametrize("kind", ["text", "prompts", "lines"])
def test_batches_are_what_the_collator_makes_of_the_selected(
    inputs: Inputs, tmp_path: Path, kind: str
) -> None:
    assert_rows_are_those_of_their_ids(
        loader_of(kind, inputs, tmp_path / "a"), loader_of(kind, inputs, tmp_path / "b")
    )


def test_shards_of_our_own_converter_are_a_stream_beside_others(
    inputs: Inputs, tmp_path: Path
) -> None:
    text, shards = tmp_path / "text.txt", tmp_path / "shards"
    text.write_text(inputs.lines.read_text())
    arguments = (text, "--out", shards, "--length", LENGTH, "--tokenizer", inputs.tokenizer)
    done = CliRunner().invoke(convert_text, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    loaders = [
        loader_of(
            "text",
            inputs,
            tmp_path,
            local=None,
            streams={"ours": {"local": str(shards)}, "theirs": {"local": str(inputs.text)}},
        )
        for _ in range(2)
    ]
    assert_rows_are_those_of_their_ids(*loaders)


def refused(loader: DataLoader, inputs: Inputs, **model: Any) -> None:
    built = build_model(inputs, MPT | model)
    trainer = Trainer(
        model=built,
        optimizers=torch.optim.SGD(built.parameters(), lr=0.01),
        train_dataloader=loader,
        max_duration="1ep",
        algorithms=[DataAgent(ratio=0.5)],
        progress_bar=False,
    )
    try:
        trainer.fit()
    finally:
        trainer.close()


def test_packing_of_prompts_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    loader = loader_of("prompts", inputs, tmp_path, packing_ratio=4.0)
    attention = MPT["attn_config"] | {"attn_uses_sequence_id": True}
    with pytest.raises(RuntimeError, match=rf"served {4 * GLOBAL_BATCH} samples.*packing_ratio"):
        refused(loader, inputs, attn_config=attention)


@pytest.mark.parametrize("weight", [{"repeat": 2}, {"choose": 50}])
def test_weighted_streams_are_refused(
    inputs: Inputs, tmp_path: Path, weight: dict[str, Any]
) -> None:
    streams = {"a": {"local": str(inputs.text)} | weight}
    loader = loader_of("text", inputs, tmp_path, local=None, streams=streams)
    with pytest.raises(ValueError, match="remove proportion, repeat and choose"):
        refused(loader, inputs)
