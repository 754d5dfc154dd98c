# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A causal language model trains on the passages that are worth it, streamed from shards."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import torch
from composer import Trainer
from composer.core import Callback
from composer.models import HuggingFaceModel
from language_models import gpt2
from same_states import assert_same
from streaming import MDSWriter, StreamingDataset
from torch import Tensor
from torch.utils.data import DataLoader

from composer_dataagent import DataAgent
from composer_dataagent.report import read_run
from composer_dataagent.signals import TokenOptions

PASSAGES, LENGTH, BATCH = 96, 48, 12


class Passages(StreamingDataset):
    """Bytes of the descriptions that come with scikit-learn's data sets, in shards."""

    def __init__(self, folder: Path) -> None:
        texts = sorted((Path(sklearn.datasets.__file__).parent / "descr").glob("*.rst"))
        text = np.frombuffer(b"".join(path.read_bytes() for path in texts), np.uint8)
        columns = {"input_ids": f"ndarray:int64:{LENGTH}"}
        with MDSWriter(out=str(folder), columns=columns, size_limit=5_000) as writer:
            for at in range(PASSAGES):
                passage = text[at * LENGTH : (at + 1) * LENGTH].astype(np.int64)
                writer.write({"input_ids": passage})
        super().__init__(local=str(folder), batch_size=BATCH, shuffle=True)

    def __getitem__(self, at: Any) -> Any:
        tokens = super().__getitem__(at)["input_ids"].copy()
        labels = tokens.copy()
        labels[: at % 5] = -100  # as a prompt of which nothing is learned
        return {"input_ids": tokens, "labels": labels}


class Account(Callback):
    """What each passage's loss was when it was seen last, by a plain reckoning."""

    def __init__(self) -> None:
        self.losses = np.full(PASSAGES, np.nan)
        self.served: list[Counter[int]] = []
        self._ids = torch.zeros(0)
        self._rows = 0

    def epoch_start(self, state: Any, logger: Any) -> None:
        self.served.append(Counter())

    def batch_start(self, state: Any, logger: Any) -> None:
        self._ids, self._rows = state.train_dataloader.sample_ids, 0
        self.served[-1].update(self._ids.tolist())

    def after_forward(self, state: Any, logger: Any) -> None:
        logits, labels = state.outputs.logits.detach()[:, :-1], state.batch["labels"][:, 1:]
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), reduction="none"
        ).view_as(labels)
        ids = self._ids[self._rows : self._rows + len(labels)]
        self._rows += len(labels)
        self.losses[ids] = (losses.sum(dim=1) / (labels >= 0).sum(dim=1)).numpy()  # 0 / 0: NaN


def train(
    folder: Path,
    trainer: dict[str, Any] | None = None,
    data: type[Passages] = Passages,
    **arguments: Any,
) -> tuple[DataAgent, Account, float]:
    """Agent, account and mean loss of the last full look at all passages."""
    torch.manual_seed(0)
    model = HuggingFaceModel(gpt2(256))
    dataset = data(folder)
    arguments.setdefault("ratio", 0.5)
    agent, account = DataAgent(**arguments), Account()
    run = Trainer(
        model=model,
        train_dataloader=DataLoader(dataset, batch_size=BATCH),
        algorithms=[agent],
        callbacks=[account],
        optimizers=torch.optim.Adam(model.parameters(), lr=1e-2),
        max_duration="4ep",
        device_train_microbatch_size=5,
        progress_bar=False,
        seed=3,
        **(trainer or {}),
    )
    try:
        run.fit()
    finally:
        run.close()
    return agent, account, float(np.nanmean(account.losses))


@pytest.mark.parametrize(
    "state",
    [*(pytest.param(part, marks=pytest.mark.grid) for part in ("signals", "features")), "both"],
)
def test_a_causal_language_model_is_scored_by_passage(tmp_path: Path, state: str) -> None:
    agent, account, loss = train(tmp_path / "data", state=state)
    assert loss < np.log(256) - 1.3  # bytes of English, a little known
    assert [sum(epoch.values()) for epoch in account.served] == [PASSAGES, *[PASSAGES // 2] * 3]
    assert all(set(epoch.values()) == {1} for epoch in account.served)
    np.testing.assert_allclose(agent.ledger.loss, account.losses, rtol=1e-5)
    assert agent.ledger.label_trust == 1.0  # nothing is known of labels
    assert not agent.ledger.flagged.any()


@pytest.mark.filterwarnings("ignore:No batches were trained for global rank:UserWarning")
@pytest.mark.parametrize("batch", [8, 12])
def test_resumed_at_the_last_batch_of_an_epoch_equals_uninterrupted(
    tmp_path: Path, batch: int
) -> None:
    """The epoch's end, which chooses what the agent wants, comes before any other batch."""
    saved = {"save_folder": str(tmp_path / "saved"), "save_interval": "1ba"}
    whole, account, _ = train(tmp_path / "data", trainer=saved)
    (path,) = (tmp_path / "saved").glob(f"ep?-ba{batch}-rank0.pt")
    agent, again, _ = train(tmp_path / "same", trainer={"load_path": str(path)})
    assert_same(agent.state_dict(), whole.state_dict())
    assert again.served[-1] == account.served[-1]


class SomeEmpty(Passages):
    """A third of the passages has no token to learn from."""

    def __getitem__(self, at: Any) -> Any:
        sample = super().__getitem__(at)
        if at % 3 == 0:
            sample["labels"][:] = -100
        return sample


def test_passages_without_a_token_to_learn_from_come_last(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    selector = {"name": "data_agent", "min_fit": 1.0, "explore": 200.0}
    history = {"run_dir": str(tmp_path / "run"), "selector": selector, "ratio": 0.6}
    _, account, _ = train(tmp_path / "data", data=SomeEmpty, **history)
    assert not any(at % 3 == 0 for at in account.served[-1])
    (told,) = [r.message for r in caplog.records if "nothing to learn from" in r.message]
    assert told.startswith("32 of the samples of epoch 0")
    first = read_run(tmp_path / "run").rows[0]
    assert first["without_targets"] == 32 and first["mean_loss"] > 4


def test_some_of_the_tokens_are_enough(tmp_path: Path) -> None:
    agent, account, _ = train(tmp_path / "data", signals={"max_tokens": 16})
    error = agent.ledger.loss / account.losses - 1
    assert np.abs(error).max() > 0
    assert np.sqrt((error**2).mean()) < 0.15


def test_gradient_weights_reach_each_passage(tmp_path: Path) -> None:
    _, account, loss = train(tmp_path / "data", selector="infobatch")
    assert loss < np.log(256) - 1.5
    assert sum(account.served[-1].values()) < PASSAGES


# ---------------------------------------------------------------------- arguments


@pytest.mark.parametrize("given", ["compiled", 3, ["compile"], {"compiled": True}])
def test_what_signals_may_be_is_told(given: Any) -> None:
    with pytest.raises(
        ValueError, match=r"signals=.* a function, or a dict of compile and max_tok"
    ):
        DataAgent(signals=given)


def test_a_wrong_number_of_tokens_is_told() -> None:
    with pytest.raises(ValueError, match="max_tokens=0 must be a whole number of at least 1"):
        DataAgent(signals={"max_tokens": 0})


def test_settings_tell_how_tokens_are_read() -> None:
    assert DataAgent().plain_settings()["signals"] is None
    options = TokenOptions(max_tokens=9)
    told = DataAgent(signals={"max_tokens": 9}).plain_settings()["signals"]
    assert told == {"compile": options.compile, "max_tokens": 9}


def weighted(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none"
    )
    return (losses * weights[:, None]).mean()


def test_a_weight_on_the_gradient_is_a_weight_on_the_passage() -> None:
    from composer_dataagent.signals import scale_gradient

    torch.manual_seed(0)
    model = HuggingFaceModel(gpt2(256)).eval()
    ids = torch.randint(256, (4, 10))
    batch, weights = {"input_ids": ids, "labels": ids}, torch.tensor([0.0, 1.0, 2.0, 0.5])
    outputs = model(batch)
    scale_gradient(outputs, weights)
    model.loss(outputs, batch).backward()
    scaled = [parameter.grad.clone() for parameter in model.parameters()]  # type: ignore[union-attr]
    model.zero_grad()
    weighted(model(batch).logits, ids, weights).backward()
    for got, parameter in zip(scaled, model.parameters(), strict=True):
        torch.testing.assert_close(got, parameter.grad)
