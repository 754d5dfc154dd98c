# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Bad input gets one clear error before the first step, and it names the fix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composer.algorithms import SelectiveBackprop
from composer.core import Callback
from composer.models import ComposerModel
from digits_run import Recorder, make_loader, make_map_loader, make_model
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from composer_dataagent import DataAgent, clear, select
from composer_dataagent.report.history import read_rows
from composer_dataagent.selection import Selection, Selector
from composer_dataagent.signals import Signals


class NoStep(Callback):
    """Fails if any batch is trained on: the errors must come earlier."""

    def batch_start(self, state: Any, logger: Any) -> None:
        raise AssertionError("a batch was trained on before the error")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratio": 0.0}, r"ratio.*0\.0.*\(0, 1\]"),
        ({"ratio": 1.5}, r"ratio.*1\.5.*\(0, 1\]"),
        ({"selector": "rnadom"}, r"rnadom.*random"),
        ({"selector": {"name": "random", "explor": 1}}, r"explor"),
        ({"preset": "papre"}, r"preset='papre'.*default.*paper"),
        ({"state": "logits"}, r"state='logits'.*signals.*features.*both"),
        ({"reward": "none"}, r"reward='none'.*budget.*paper"),
        ({"update_interval": 0}, r"update_interval=0.*at least 1"),
        ({"warmup_epochs": -1}, r"warmup_epochs.*-1"),
        ({"anneal": 1.0}, r"anneal.*1\.0"),
        ({"ratio": "0.5"}, r"ratio='0\.5'.*\(0, 1\]"),
        ({"ratio": None}, r"ratio=None"),
        ({"ratio": True}, r"ratio=True"),
        ({"warmup_epochs": "x"}, r"warmup_epochs='x'.*whole number"),
        ({"anneal": "x"}, r"anneal='x'"),
        ({"seed": 1.5}, r"seed=1\.5.*whole number"),
        ({"seed": -1}, r"seed=-1"),
        ({"class_names": "abc"}, r"class_names='abc'.*list"),
        ({"rescale": "yes"}, r"rescale='yes'.*True or False"),
        ({"overwrite": 1}, r"overwrite=1"),
        ({"update_interval": True}, r"update_interval=True"),
        ({"schedule": 5}, r"schedule=5.*function"),
        ({"signals": 5}, r"signals=5.*function"),
        ({"on_nonfinite": "ignore"}, r"on_nonfinite='ignore'.*skip.*raise"),
        ({"fetch": "ranges"}, r"DataAgent: fetch='ranges'.*'shards', 'samples'"),
        ({"fetch": None}, r"DataAgent: fetch=None"),
        ({"costs": 5}, r"DataAgent: costs=5.*mapping"),
        ({"costs": {"dollars": 1}}, r"DataAgent: costs.*no 'dollars'.*dollars_per_gb"),
        ({"costs": {"dollars_per_gb": -1}}, r"DataAgent: costs: dollars_per_gb=-1"),
        ({"costs": {"latency": "x"}}, r"DataAgent: costs: latency='x'"),
        ({"head": 5, "state": "features"}, r"head=5.*text"),
        ({"run_dir": 5}, r"run_dir=5.*text"),
        ({"selector": {"name": "loss", "explore": "x"}}, r"explore='x'"),
        ({"selector": {"name": "data_agent", "gate": "no"}}, r"gate='no'"),
        ({"head": "fc"}, r"head='fc'.*state='signals' uses none.*state='features'"),
    ],
    ids=str,
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataAgent(**arguments)


class Rows(IterableDataset):
    """Data whose samples have no ids: neither streaming nor map-style."""

    def __iter__(self) -> Iterator[Any]:
        return iter([(torch.zeros(64), 0)] * 64)

    def __len__(self) -> int:
        return 64


def test_dataset_that_is_neither_streaming_nor_map_style(make_trainer: Any) -> None:
    loader = DataLoader(Rows(), batch_size=16)
    trainer = make_trainer(DataAgent(), loader=loader, callbacks=[NoStep()])
    with pytest.raises(TypeError, match=r"Rows.*StreamingDataset.*map-style"):
        trainer.fit()


def test_loader_that_is_no_dataloader(make_trainer: Any, shards: str) -> None:
    batches = list(make_loader(shards))
    trainer = make_trainer(
        DataAgent(), loader=batches, callbacks=[NoStep()], device_train_microbatch_size=16
    )
    with pytest.raises(TypeError, match=r"DataLoader.*StreamingDataset.*map-style.*list"):
        trainer.fit()


def test_head_that_cannot_be_found(make_trainer: Any) -> None:
    trainer = make_trainer(DataAgent(state="features", head="module.nope"), callbacks=[NoStep()])
    with pytest.raises(ValueError, match=r"(?s)module\.nope.*4 \(24 -> 10\)"):
        trainer.fit()


def test_selective_backprop_in_the_same_run(make_trainer: Any) -> None:
    with pytest.raises(ValueError, match=r"SelectiveBackprop.*remove"):
        make_trainer([DataAgent(), SelectiveBackprop()])


def test_two_agents(make_trainer: Any) -> None:
    with pytest.raises(ValueError, match=r"one DataAgent only"):
        make_trainer([DataAgent(), DataAgent(ratio=0.3)])


def test_fewer_selected_samples_than_a_global_batch(make_trainer: Any, shards: str) -> None:
    trainer = make_trainer(
        DataAgent(ratio=0.1), loader=make_loader(shards, batch_size=64), callbacks=[NoStep()]
    )
    with pytest.raises(ValueError, match=r"ratio=0\.1 of 203 .* 20, .*batch of 64.*0\.315"):
        trainer.fit()


def test_a_batch_larger_than_the_data(make_trainer: Any, shards: str) -> None:
    trainer = make_trainer(
        DataAgent(), loader=make_loader(shards, batch_size=256), callbacks=[NoStep()]
    )
    with pytest.raises(ValueError, match=r"one global batch of 256: use a smaller batch size"):
        trainer.fit()


def test_subset_of_batches(make_trainer: Any) -> None:
    trainer = make_trainer(DataAgent(), train_subset_num_batches=3, callbacks=[NoStep()])
    with pytest.raises(ValueError, match="train_subset_num_batches"):
        trainer.fit()


def test_select_in_the_same_run(make_trainer: Any, shards: str) -> None:
    loader = make_loader(shards)
    select(loader.dataset, range(64))  # type: ignore[arg-type]
    trainer = make_trainer(DataAgent(), loader=loader, callbacks=[NoStep()])
    with pytest.raises(ValueError, match=r"restricted already.*clear\(dataset\)"):
        trainer.fit()
    clear(loader.dataset)  # type: ignore[arg-type]
    make_trainer(DataAgent(), loader=loader, epochs=1).fit()


def test_another_loader_in_a_second_fit(make_trainer: Any, shards: str) -> None:
    trainer = make_trainer(DataAgent(), epochs=1)
    trainer.fit()
    with pytest.raises(ValueError, match="another train_dataloader"):
        trainer.fit(train_dataloader=make_loader(shards), duration="1ep")


@pytest.mark.filterwarnings("ignore:.*is not in the state_dict")
@pytest.mark.parametrize("kind", ["streaming", "map-style"])
def test_a_checkpoint_from_inside_an_epoch_that_had_no_agent(
    make_trainer: Any, shards: str, tmp_path: Path, kind: str
) -> None:
    def loader() -> DataLoader:
        return make_loader(shards) if kind == "streaming" else make_map_loader()

    for interval in ("1ep", "16ba"):
        where = {"save_folder": str(tmp_path), "save_interval": interval, "save_overwrite": True}
        make_trainer(None, loader=loader(), max_duration="16ba", **where).fit()
    inside, between = (str(tmp_path / f"{name}-rank0.pt") for name in ("ep1-ba16", "ep1-ba13"))
    trainer = make_trainer(
        DataAgent(), loader=loader(), load_path=inside, callbacks=[NoStep()], epochs=2
    )
    with pytest.raises(RuntimeError, match=r"no DataAgent state.*save_interval='1ep'"):
        trainer.fit()
    recorder = Recorder()
    make_trainer(
        DataAgent(), loader=loader(), load_path=between, callbacks=[recorder], epochs=2
    ).fit()
    assert [epoch for epoch, _ in recorder.ids] == [1] * 7


def test_schedule_that_selects_less_than_a_batch(make_trainer: Any) -> None:
    trainer = make_trainer(DataAgent(schedule=lambda epoch, _: 0.05), callbacks=[NoStep()])
    with pytest.raises(ValueError, match=r"ratio=0\.05 of 203 samples selects 10"):
        trainer.fit()


class Regression(ComposerModel):
    """A model whose outputs are no classifier's."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(64, 1)

    def forward(self, batch: Any) -> Any:
        return {"prediction": self.net(batch[0])}

    def loss(self, outputs: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        return outputs["prediction"].square().mean()


def test_unknown_outputs_show_the_signals_callable(make_trainer: Any) -> None:
    trainer = make_trainer(DataAgent(), model=Regression())
    with pytest.raises(TypeError, match=r"(?s)DataAgent\(.*signals="):
        trainer.fit()


def test_schedule_that_gives_nonsense(make_trainer: Any) -> None:
    trainer = make_trainer(DataAgent(schedule=lambda epoch, progress: 2.0), callbacks=[NoStep()])
    with pytest.raises(ValueError, match=r"schedule=2\.0.*\(0, 1\].*epoch 0"):
        trainer.fit()


class Rule(Selector):
    """A rule of the user's, made of a function."""

    name, summary = "mine", "mine"

    def __init__(self, pick: Any) -> None:
        self._pick = pick

    def select(self, ledger: Any, size: int, rng: Any) -> Any:
        return self._pick(len(ledger), size)


@pytest.mark.parametrize(
    ("pick", "error", "message"),
    [
        (lambda of, size: None, TypeError, r"'mine', asked for 203 of 203.*NoneType.*Selection\("),
        (lambda of, size: np.arange(size), TypeError, "returned a ndarray"),
        (lambda of, size: Selection([1, 2]), TypeError, "NumPy array, got a list"),  # type: ignore[arg-type]
        (lambda of, size: Selection(np.arange(size) + 1), ValueError, "203 ids from 1 to 203.*202"),
        (lambda of, size: Selection(np.arange(size) - 1), ValueError, "203 ids from -1 to 201"),
        (lambda of, size: Selection(np.arange(0)), ValueError, "returned no ids"),
    ],
    ids=range(6),
)
def test_a_rule_that_selects_nonsense(
    make_trainer: Any, pick: Any, error: type[Exception], message: str
) -> None:
    trainer = make_trainer(DataAgent(selector=Rule(pick)), callbacks=[NoStep()])
    with pytest.raises(error, match=message):
        trainer.fit()


def test_a_rule_with_its_own_mind_about_a_rounds_size(make_trainer: Any) -> None:
    rule = Rule(lambda of, size: Selection(np.arange(of)))
    trainer = make_trainer(DataAgent(selector=rule, interval="0.5ep"), epochs=1)
    with pytest.raises(ValueError, match=r"asked for 51 of 102.* 102: with interval='0\.5ep'"):
        trainer.fit()


@pytest.mark.parametrize("interval", [None, "0.5ep"])
def test_more_rounds_than_can_be_counted(make_trainer: Any, interval: str | None) -> None:
    agent = DataAgent(interval=interval)
    trainer = make_trainer(agent, epochs=40_000, callbacks=[NoStep()])
    with pytest.raises(ValueError, match=r"40000 epochs of .* up to 32767: use .*max_duration"):
        trainer.fit()


def test_history_of_another_run_is_not_overwritten(make_trainer: Any, run_dir: str) -> None:
    make_trainer(DataAgent(run_dir=run_dir), epochs=1).fit()
    again = make_trainer(DataAgent(run_dir=run_dir), epochs=1, callbacks=[NoStep()])
    with pytest.raises(FileExistsError, match="overwrite"):
        again.fit()
    make_trainer(DataAgent(run_dir=run_dir, overwrite=True), epochs=1).fit()


def _signals(change: Any) -> Any:
    """A user's function, whose columns go through ``change``."""

    def signals(outputs: Any, batch: Any) -> Any:
        loss = torch.nn.functional.cross_entropy(outputs, batch[1], reduction="none")
        return change({"loss": loss, "entropy": torch.full_like(loss, 0.5), "label": batch[1]})

    return signals


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c: Signals(**c | {"entropy": 3 * c["entropy"]}), ValueError, r"entropy in .*1\.5"),
        (lambda c: Signals(**c, max_prob=-c["entropy"]), ValueError, r"max_prob in .*-0\.5"),
        (
            lambda c: Signals(**c | {"label": c["label"] - 2}),
            ValueError,
            r"label a class.*has -[12]:",
        ),
        (
            lambda c: Signals(**c | {"label": c["label"] + 2**30}),
            ValueError,
            r"label a class.*has 1073",
        ),
        (
            lambda c: Signals(**c | {"label": c["label"] - 2**40}),
            ValueError,
            r"label a class.*has -2147",
        ),
        (
            lambda c: Signals(**c, predicted=c["label"] - 2),
            ValueError,
            r"predicted a class.*has -2",
        ),
        (lambda c: (c["loss"], c["entropy"]), TypeError, r"(?s)returned tuple of.*return Signals"),
        (lambda c: None, TypeError, r"returned NoneType"),
        (lambda c: Signals(c["loss"].tolist(), c["entropy"]), TypeError, r"loss is a list"),
        (lambda c: Signals(c["loss"], None), TypeError, r"entropy is a NoneType"),  # type: ignore[arg-type]
        (
            lambda c: Signals(c["loss"][:1], c["entropy"][:1]),
            RuntimeError,
            r"served 16 .*of 1:.*sign",
        ),
    ],
    ids=range(11),
)
@pytest.mark.parametrize("selector", ["data_agent", "random"])
def test_signals_that_no_sample_can_have(
    make_trainer: Any, change: Any, error: type[Exception], message: str, selector: str
) -> None:
    trainer = make_trainer(DataAgent(signals=_signals(change), selector=selector), epochs=1)
    with pytest.raises(error, match=message):
        trainer.fit()


def test_signals_that_are_rounded_beyond_their_range(make_trainer: Any) -> None:
    agent = DataAgent(
        signals=_signals(lambda c: Signals(**c | {"entropy": c["entropy"] * 2 + 1e-3})),
        warmup_epochs=0,
    )
    make_trainer(agent, epochs=2).fit()
    scores = agent.ledger.score
    assert scores is not None and np.isfinite(scores[agent.ledger.seen]).all()


def test_losses_below_0_are_losses(
    make_trainer: Any, run_dir: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of densities, say. Only labels and tokens tell of samples that have nothing to learn from."""
    agent = DataAgent(
        signals=_signals(lambda c: Signals(c["loss"] - 10, c["entropy"])), run_dir=run_dir
    )
    make_trainer(agent, epochs=1).fit()
    (row,) = read_rows(Path(run_dir))
    assert row["without_targets"] == 0 and row["mean_loss"] < -5
    assert "nothing to learn from" not in caplog.text


def test_custom_signals_replace_detection(
    make_trainer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    unlabelled = _signals(lambda columns: Signals(columns["loss"], columns["entropy"]))
    agent = DataAgent(ratio=0.5, signals=unlabelled)
    with caplog.at_level("INFO", "composer_dataagent"):
        make_trainer(agent, model=make_model(), epochs=2).fit()
    assert (agent.ledger.entropy == 0.5).all()
    assert (agent.ledger.label == -1).all()
    # Labels that are not known are not distrusted.
    assert agent.ledger.label_trust == 1.0 and "wants hard and uncertain samples" in caplog.text
