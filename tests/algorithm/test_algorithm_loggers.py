# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent logs arrives in each of Composer's loggers, read back from what they wrote."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from composer.loggers import (
    InMemoryLogger,
    MLFlowLogger,
    TensorboardLogger,
    WandBLogger,
)
from digits_run import build_trainer, make_loader

from composer_dataagent import DataAgent
from composer_dataagent.report import read_run

EPOCHS = 3
# The history's rows have more than numbers.
NO_METRIC = {
    "selector",
    "target",
    "ppo",
    "action_histogram",
    "class_selected",
    "class_total",
    "shard_selected",
    "shard_total",
    "metrics",
}
# {metric: {step: value}}
Series = dict[str, dict[int, float]]


@dataclass
class Logged:
    """A run that was logged everywhere at once."""

    folder: Path
    expected: Series  # as the InMemoryLogger has it
    hyperparameters: dict[str, Any]
    mlflow_run: str


@pytest.fixture(scope="module")
def logged(shards: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    folder = tmp_path_factory.mktemp("logged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "excepthook", sys.excepthook)  # Composer's MLFlowLogger replaces it
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # since MLflow 3.7 it has to be asked for
        for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
            patch.setenv(name, "true")
        patch.setenv("MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS", "")  # the logger sets it for good
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.setenv("WANDB_SILENT", "true")
        memory = InMemoryLogger()
        mlflow = MLFlowLogger(
            experiment_name="digits",
            tracking_uri=(folder / "mlflow").as_uri(),
            log_system_metrics=False,
            synchronous=True,
        )
        trainer = build_trainer(
            make_loader(shards),
            DataAgent(update_interval=3, run_dir=str(folder / "run")),
            epochs=EPOCHS,
            loggers=[
                memory,
                TensorboardLogger(log_dir=str(folder / "tensorboard")),
                WandBLogger(project="digits", init_kwargs={"dir": str(folder)}),
                mlflow,
            ],
        )
        trainer.fit()
        trainer.close()
        expected = {
            name: {int(timestamp.batch): float(value) for timestamp, value in values}
            for name, values in memory.data.items()
            if name.startswith("data_agent/")
        }
        assert mlflow._run_id is not None
        yield Logged(folder, expected, memory.hyperparameters, mlflow._run_id)


def assert_equal(found: Series, expected: Series) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        # Event files hold float32.
        assert found[name] == pytest.approx(values, rel=1e-6, nan_ok=True), name


def test_every_number_of_the_history_is_logged_at_the_end_of_its_epoch(logged: Logged) -> None:
    rows = read_run(logged.folder / "run").rows
    assert len(rows) == EPOCHS
    ends = [row["batches"] for row in rows]
    assert ends == [13, 20, 27]
    for row in rows:
        for name, value in {**row, **{f"ppo/{k}": v for k, v in row["ppo"].items()}}.items():
            if name in NO_METRIC or value is None:
                continue
            found = logged.expected[f"data_agent/{name}"][row["batches"]]
            if "seconds" in name:  # measured twice
                assert found > 0
            else:
                assert found == pytest.approx(value), name
    names = {name.removeprefix("data_agent/") for name in logged.expected}
    assert {"ratio", "selected", "nonfinite", "updates", "reward", "ppo/approx_kl"} <= names
    assert all(math.isfinite(v) for values in logged.expected.values() for v in values.values())


def test_tensorboard(logged: Logged) -> None:
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    files = EventMultiplexer().AddRunsFromDirectory(str(logged.folder / "tensorboard")).Reload()
    found: Series = {}
    for run, tags in files.Runs().items():
        for tag in tags["scalars"]:
            if tag.startswith("data_agent/"):
                found[tag] = {event.step: event.value for event in files.Scalars(run, tag)}
    assert_equal(found, logged.expected)


def test_wandb_offline(logged: Logged) -> None:
    # There is no other way to read an offline run than the one that `wandb sync` takes.
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]
    from wandb.sdk.internal.datastore import DataStore

    (path,) = logged.folder.glob("wandb/offline-run-*/run-*.wandb")
    store, history, summary = DataStore(), {}, {}
    store.open_for_scan(str(path))
    while (data := store.scan_data()) is not None:
        record = Record.FromString(data)
        row = {_key(item): json.loads(item.value_json) for item in record.history.item}
        for name, value in row.items():
            if name.startswith("data_agent/"):
                history.setdefault(name, {})[row["_step"]] = value
        summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
    store.close()
    assert_equal(history, logged.expected)
    last = {name: values[max(values)] for name, values in logged.expected.items()}
    assert {name: summary[name] for name in last} == pytest.approx(last)


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def test_mlflow_file_store(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient((logged.folder / "mlflow").as_uri())
    run = client.get_run(logged.mlflow_run)
    assert run.info.status == "FINISHED"
    found = {
        name: {m.step: m.value for m in client.get_metric_history(logged.mlflow_run, name)}
        for name in run.data.metrics
        if name.startswith("data_agent/")
    }
    # Composer does not send a value to MLflow again that has not changed for 100 steps.
    changes: Series = {}
    for name, values in logged.expected.items():
        last = None
        for step, value in sorted(values.items()):
            if value != last:
                changes.setdefault(name, {})[step] = last = value
    assert_equal(found, changes)
    assert run.data.params["enabled_algorithms/DataAgent"] == "True"


def test_the_algorithm_is_among_the_hyperparameters(logged: Logged) -> None:
    assert logged.hyperparameters["enabled_algorithms/DataAgent"] is True


def test_the_progress_bar_is_as_long_as_the_epoch(make_trainer: Any, tmp_path: Path) -> None:
    """It shows the loss; Composer lets no other number of training into it."""
    with open(tmp_path / "terminal", "w+") as terminal:
        make_trainer(DataAgent(ratio=0.5), progress_bar=True, console_stream=terminal).fit()
        terminal.seek(0)
        text = terminal.read()
    for epoch, batches in enumerate([13, 7, 7]):
        done = rf"train +Epoch +{epoch}: +100%.*\b{batches}/{batches} \[.*loss/train/total="
        assert re.search(done, text), text
    assert not re.search(r"train +Epoch +[12]: .*/13 ", text)


def test_the_console(make_trainer: Any) -> None:
    console = io.StringIO()
    make_trainer(
        DataAgent(ratio=0.5),
        log_to_console=True,
        console_log_interval="1ep",
        console_stream=console,
    ).fit()
    text = console.getvalue()
    assert re.findall(r"Train data_agent/selected: (\S+)", text) == ["203.0000", *2 * ["102.0000"]]
    assert re.findall(r"Train data_agent/nonfinite: (\S+)", text) == 3 * ["0.0000"]
    assert "enabled_algorithms/DataAgent: true" in text
