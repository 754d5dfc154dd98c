# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint holds of the agent, which checkpoints it goes on from, and which it refuses."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digits_run import NUM_SAMPLES, Recorder, make_loader, make_map_loader, write_shards
from torch import Tensor

from composer_dataagent import DataAgent
from composer_dataagent.algorithm import STATE_VERSION

HALF = 102
IGNORED = {"load_ignore_keys": ["state/algorithms"]}


@pytest.fixture
def save(make_trainer: Any, shards: str, tmp_path: Path) -> Any:
    """Trains an epoch, or some batches of it, and gives the path of the checkpoint."""

    def checkpoint(agent: DataAgent | None, max_duration: str = "1ep", loader: Any = None) -> str:
        trainer = make_trainer(
            agent, loader=loader or make_loader(shards), max_duration=max_duration
        )
        trainer.fit()
        return trainer.save_checkpoint(str(tmp_path / "checkpoint.pt"))

    return checkpoint


@pytest.mark.parametrize("max_duration", ["1ep", "16ba"])  # between epochs, and inside one
@pytest.mark.parametrize(
    "arguments",
    [{}, {"preset": "paper"}, {"state": "both"}, {"selector": "ucb"}, {"selector": "infobatch"}],
    ids=str,
)
def test_tensors_and_builtins_only(
    save: Any, tmp_path: Path, max_duration: str, arguments: dict[str, Any]
) -> None:
    """So that it loads under the rules of Composer's next release."""
    path = save(DataAgent(**arguments), max_duration)
    state = torch.load(path, weights_only=False)
    torch.save(state["state"]["algorithms"], tmp_path / "algorithms.pt")
    torch.load(tmp_path / "algorithms.pt", weights_only=True)
    # And as a whole, with what Composer itself asks to be allowed there.
    types = [type(np.dtype(name)) for name in ("float32", "float64", "uint32", "int64")]
    allowed: list[Any] = [timedelta, np.ndarray, np.dtype, *types]
    allowed += [np._core.multiarray._reconstruct, torch.torch_version.TorchVersion]  # type: ignore[attr-defined]
    with torch.serialization.safe_globals(allowed):
        torch.load(path, weights_only=True)


def test_bytes_per_sample(save: Any) -> None:
    path = save(DataAgent())
    ((_, state),) = torch.load(path, weights_only=False)["state"]["algorithms"]

    def size(value: Any) -> int:
        if isinstance(value, Tensor):
            return value.nbytes if value.numel() >= NUM_SAMPLES // 8 else 0
        parts = value.values() if isinstance(value, dict) else value
        return sum(map(size, parts)) if isinstance(value, dict | list | tuple) else 0

    ledger = {name: state[name] for name in ("ledger", "flagged", "selection", "score")}
    assert size(ledger) / NUM_SAMPLES <= 26.3


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ({"ratio": 0.6}, r"ratio=0\.5, but this one has ratio=0\.6"),
        ({"selector": "random"}, r"selector=.*data_agent.*, but this one has selector=.*random"),
        ({"preset": "paper"}, r"anneal=0\.0, but this one has anneal=0\.125"),
        ({"seed": 1}, r"seed=0, but this one has seed=1"),
        ({"update_interval": 3}, r"update_interval=10, but this one has update_interval=3"),
    ],
)
def test_of_other_settings(
    make_trainer: Any, shards: str, save: Any, arguments: dict[str, Any], values: str
) -> None:
    path = save(DataAgent())
    trainer = make_trainer(DataAgent(**arguments), loader=make_loader(shards), load_path=path)
    with pytest.raises(ValueError, match=rf"The checkpoint's DataAgent has {values}.*ignore_keys"):
        trainer.fit()


@pytest.mark.parametrize("samples", [NUM_SAMPLES - 3, NUM_SAMPLES])
def test_of_another_data_set(make_trainer: Any, save: Any, tmp_path: Path, samples: int) -> None:
    path = save(DataAgent())
    other = write_shards(str(tmp_path / "other"), samples, size_limit=9_000)
    trainer = make_trainer(DataAgent(), loader=make_loader(other), load_path=path)
    here = rf"{NUM_SAMPLES} samples in 7 shards with the index digest \w+"
    there = rf"{samples} samples in 7 shards with the index digest \w+"
    with pytest.raises(ValueError, match=f"data='{here}', but this one has data='{there}'"):
        trainer.fit()


def test_of_map_style_data(make_trainer: Any, save: Any) -> None:
    path = save(DataAgent())
    trainer = make_trainer(DataAgent(), loader=make_map_loader(), load_path=path)
    with pytest.raises(ValueError, match=r"7 shards .* this one has data='203 map-style samples'"):
        trainer.fit()


def test_of_an_earlier_version(make_trainer: Any, save: Any, shards: str) -> None:
    path = save(DataAgent())
    checkpoint = torch.load(path, weights_only=False)
    checkpoint["state"]["algorithms"][0][1]["version"] = 1
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match=f"version 1, this package reads version {STATE_VERSION}"):
        make_trainer(DataAgent(), loader=make_loader(shards), load_path=path)


# ---------------------------------------------------------------------- gone on from


@pytest.mark.filterwarnings("ignore:.* is not in the state_dict:UserWarning")
@pytest.mark.parametrize(
    ("before", "after", "arguments"),
    [
        (DataAgent(), DataAgent(ratio=0.3), IGNORED),
        (DataAgent(), DataAgent(), {"load_weights_only": True, "load_strict_model_weights": True}),
        (None, DataAgent(), {}),
    ],
    ids=["ignored", "weights only", "no agent"],
)
def test_without_the_agents_state_it_starts_anew(
    make_trainer: Any, shards: str, save: Any, before: Any, after: Any, arguments: dict[str, Any]
) -> None:
    path = save(before)
    recorder = Recorder()
    trainer = make_trainer(
        after, loader=make_loader(shards), load_path=path, callbacks=[recorder], **arguments
    )
    trainer.fit()
    weights_only = "load_weights_only" in arguments
    # Weights only: epochs count from 0, and so does the warm-up.
    sizes = [len(ids) for ids in recorder.by_epoch()]
    size = int(after.ratio * NUM_SAMPLES + 0.5)
    assert sizes == ([NUM_SAMPLES, size, size] if weights_only else [size, size])
    assert after.ledger.visits.sum() == sum(sizes)


def test_with_the_agents_state_it_goes_on(make_trainer: Any, shards: str, save: Any) -> None:
    path = save(DataAgent())
    agent = DataAgent()
    make_trainer(agent, loader=make_loader(shards), load_path=path).fit()
    assert agent.ledger.visits.max() == 3 and agent.ledger.coverage() == 1
