# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Beside each of Composer's algorithms, a sample is scored with what its training pass showed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mixed_ranks
import pytest
import torch
from alibi_reader import Reader
from companion_checks import (
    Mixed,
    by_id,
    check_ids,
    check_ledger,
    check_mixed_batches,
    check_same,
    expected_of,
    shares_of,
    watched_mixing,
)
from companion_runs import (
    BATCH,
    CLASSES,
    LABELS,
    NUM_SAMPLES,
    StreamedPictures,
    bert,
    bert_in_low_precision,
    bottlenecks,
    cnn,
    conv_headed,
    image_loader,
    picture_loader,
    run,
    soft_targets,
    text_loader,
)
from composer.algorithms import (
    EMA,
    SAM,
    SWA,
    Alibi,
    AugMix,
    BlurPool,
    ChannelsLast,
    ColOut,
    CutMix,
    CutOut,
    Factorize,
    GatedLinearUnits,
    GhostBatchNorm,
    GradientClipping,
    GyroDropout,
    LabelSmoothing,
    LayerFreezing,
    LowPrecisionLayerNorm,
    MixUp,
    ProgressiveResizing,
    RandAugment,
    SeqLengthWarmup,
    SqueezeExcite,
    StochasticDepth,
    WeightStandardization,
)
from composer.core import Algorithm, Callback
from torch import nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.data import DataLoader

from composer_dataagent import DataAgent

pytestmark = [
    # What Composer says of its own algorithms.
    pytest.mark.filterwarnings("ignore:.*(SAM|SWA|GyroDropout|layer freezing).*:UserWarning"),
    pytest.mark.filterwarnings("ignore:Low Precision LayerNorm only applies to AMP"),
    pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning"),
]


@dataclass(frozen=True)
class Row:
    """A row of the method card's table.

    Attributes:
        companion: Makes the other algorithm.
        model: Makes a model for it.
        loader: Makes a loader for it.
        head: Where features come from.
        works: Whether a module shows that the algorithm was at work. Default: nothing shows it.
        max_duration: Of two epochs.
    """

    companion: Callable[[], Algorithm]
    model: Callable[[], Any] = cnn
    loader: Callable[[], DataLoader] = image_loader
    head: str = "module.head"
    works: Callable[[nn.Module], bool] | None = None
    max_duration: str = "2ep"


def made(name: str) -> Callable[[nn.Module], bool]:
    return lambda module: type(module).__name__ == name


CLASSIFIER = "model.classifier"
ROWS = {
    "Alibi": Row(
        lambda: Alibi(16, train_sequence_length_scaling=1),
        Reader,
        text_loader,
        "head",
        lambda module: getattr(module, "alibi", None) is not None,
    ),
    "AugMix": Row(AugMix, lambda: cnn(channels=3), picture_loader),
    "BlurPool": Row(BlurPool, works=made("BlurConv2d")),
    "ChannelsLast": Row(ChannelsLast),
    "ColOut": Row(ColOut),
    "ColOut-sample": Row(lambda: ColOut(batch=False), lambda: cnn(channels=3), picture_loader),
    "CutOut": Row(CutOut),
    "EMA": Row(lambda: EMA(half_life="2ba")),
    "Factorize": Row(
        lambda: Factorize(min_features=10, latent_features=4, min_channels=16, latent_channels=4),
        works=made("FactorizedLinear"),
    ),
    "GatedLinearUnits": Row(
        GatedLinearUnits, bert, text_loader, CLASSIFIER, made("BERTGatedFFOutput")
    ),
    "GhostBatchNorm": Row(lambda: GhostBatchNorm(4), works=made("GhostBatchNorm2d")),
    "GradientClipping": Row(lambda: GradientClipping("norm", 0.1)),
    "GyroDropout": Row(
        lambda: GyroDropout(sigma=4, tau=2),
        lambda: cnn(dropout=True),
        lambda: image_loader(drop_last=True),
        works=made("GyroDropoutLayer"),
    ),
    "LabelSmoothing": Row(lambda: LabelSmoothing(0.2)),
    "LayerFreezing": Row(
        lambda: LayerFreezing(freeze_start=0.0, freeze_level=0.8),
        works=lambda module: any(not weight.requires_grad for weight in module.parameters()),
    ),
    "LowPrecisionLayerNorm": Row(
        LowPrecisionLayerNorm, bert_in_low_precision, text_loader, CLASSIFIER, made("LPLayerNorm")
    ),
    "ProgressiveResizing": Row(lambda: ProgressiveResizing(delay_fraction=0.2, size_increment=2)),
    "RandAugment": Row(RandAugment, lambda: cnn(channels=3), picture_loader),
    "SAM": Row(SAM),
    # Its average takes the place of the weights after the seventh batch of eight.
    "SWA": Row(lambda: SWA("0.3dur", "0.8dur", update_interval="1ba"), max_duration="8ba"),
    "SeqLengthWarmup": Row(
        lambda: SeqLengthWarmup(0.5, min_seq_length=4, max_seq_length=12, step_size=4),
        bert,
        lambda: text_loader(column=True),
        CLASSIFIER,
    ),
    "SqueezeExcite": Row(
        lambda: SqueezeExcite(latent_channels=4, min_channels=16), works=made("SqueezeExciteConv2d")
    ),
    "SqueezeExcite-head": Row(
        lambda: SqueezeExcite(latent_channels=4, min_channels=10),
        conv_headed,
        head="module.head.conv",
        works=made("SqueezeExcite2d"),
    ),
    "StochasticDepth": Row(
        lambda: StochasticDepth("ResNetBottleneck", drop_rate=0.5),
        bottlenecks,
        works=lambda module: hasattr(module, "drop_rate"),
    ),
    "StochasticDepth-sample": Row(
        lambda: StochasticDepth("ResNetBottleneck", stochastic_method="sample", drop_rate=0.5),
        bottlenecks,
        works=lambda module: hasattr(module, "drop_rate"),
    ),
    "WeightStandardization": Row(WeightStandardization, works=is_parametrized),
}


@pytest.mark.parametrize("name", ROWS)
def test_every_sample_is_scored_with_its_training_pass_in_either_order(name: str) -> None:
    row = ROWS[name]
    outcomes = [
        run(
            [row.companion()],
            model=row.model(),
            loader=row.loader(),
            head=row.head,
            agent_first=agent_first,
            max_duration=row.max_duration,
        )
        for agent_first in (True, False)
    ]
    dropped = (11, 6) if name == "GyroDropout" else (0, 0)
    for outcome in outcomes:
        check_ids(outcome, dropped)
        check_ledger(outcome, expected_of(outcome.account))
        for (_, features), batch in zip(outcome.read, outcome.account.batches, strict=True):
            torch.testing.assert_close(features, torch.cat(batch.features))
        if row.works is not None:
            assert any(map(row.works, outcome.model.modules()))
    check_same(*outcomes)


@pytest.mark.parametrize("name", ["EMA", "SWA"])
def test_averages_of_weights_score_nothing(name: str, tmp_path: Path) -> None:
    """They are evaluated and saved, but what is scored are the weights that are trained."""
    average = EMA(half_life="2ba") if name == "EMA" else SWA("0.3dur", "1dur", "1ep")
    plain, averaged = (
        run(
            companions,
            eval_dataloader=image_loader(),
            eval_interval="2ba",
            save_folder=str(tmp_path / str(len(companions))),
            save_interval="1ba",
        )
        for companions in ([], [average])
    )
    check_same(plain, averaged)
    weights, average_weights = plain.model.parameters(), averaged.model.parameters()
    assert not all(map(torch.equal, weights, average_weights))


@pytest.mark.parametrize("microbatch", [16, 5])
def test_sam_is_scored_at_its_first_pass(microbatch: int) -> None:
    outcome = run([SAM()], device_train_microbatch_size=microbatch)
    check_ledger(outcome, expected_of(outcome.account))
    for batch in outcome.account.batches:
        first, second = torch.cat(batch.logits), torch.cat(batch.second)
        assert len(first) == len(second) == len(batch.ids)
        assert not torch.allclose(first, second, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("augment", [AugMix, RandAugment])
@pytest.mark.parametrize("agent_first", [True, False])
def test_streaming_vision_data_can_be_augmented(
    tmp_path: Path, augment: type[Algorithm], agent_first: bool
) -> None:
    dataset = StreamedPictures(str(tmp_path))
    loader = DataLoader(dataset, batch_size=BATCH)
    outcome = run([augment()], model=cnn(channels=3), loader=loader, agent_first=agent_first)
    assert len(dataset.transform.transforms) == 2  # type: ignore[union-attr]
    check_ids(outcome)
    check_ledger(outcome, expected_of(outcome.account))


@pytest.mark.parametrize("agent_first", [True, False])
@pytest.mark.parametrize("name", ["AugMix", "RandAugment", "ColOut"])
def test_other_data_cannot_be_augmented_by_them(name: str, agent_first: bool) -> None:
    augment = {"AugMix": AugMix, "RandAugment": RandAugment, "ColOut": lambda: ColOut(batch=False)}
    with pytest.raises(TypeError, match=rf"{name}.*must be a\n? *VisionDataset, not Samples"):
        run([augment[name]()], agent_first=agent_first)


def test_sizes_change_with_several_microbatches() -> None:
    resizing = ProgressiveResizing(delay_fraction=0.2, size_increment=2)
    outcome = run([resizing], device_train_microbatch_size=4)
    check_ids(outcome)
    check_ledger(outcome, expected_of(outcome.account))


# ---------------------------------------------------------------------- mixed rows


@pytest.fixture
def mixed() -> Iterator[list[Mixed]]:
    with watched_mixing() as seen:
        yield seen


MIXERS = {
    "MixUp": lambda **arguments: MixUp(alpha=1.0, **arguments),
    "CutMix": lambda **arguments: CutMix(alpha=1.0, **arguments),
}


@pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])
@pytest.mark.parametrize(("interpolate_loss", "microbatch"), [(False, 16), (True, 16), (False, 5)])
@pytest.mark.parametrize("name", MIXERS)
def test_a_mixed_sample_is_scored_with_its_own_share_of_the_loss(
    mixed: list[Mixed], name: str, interpolate_loss: bool, microbatch: int, soft: bool
) -> None:
    targets = soft_targets() if soft else LABELS
    outcomes = []
    for agent_first in (True, False):
        mixed.clear()
        outcome = run(
            [MIXERS[name](interpolate_loss=interpolate_loss)],
            agent_first=agent_first,
            loader=image_loader(soft),
            device_train_microbatch_size=microbatch,
        )
        expected: dict[int, dict[str, float]] = {}
        for shares in check_mixed_batches(outcome, mixed, targets):
            expected |= shares
        check_ids(outcome)
        check_ledger(outcome, expected)
        outcomes.append(outcome)
    check_same(*outcomes)


@pytest.mark.parametrize(
    ("name", "parallel"),
    [
        ("MixUp", "fsdp2"),
        ("CutMix", None),
        pytest.param("MixUp", None, marks=pytest.mark.grid),
        pytest.param("CutMix", "fsdp2", marks=pytest.mark.grid),
        pytest.param("MixUp", "fsdp1", marks=pytest.mark.grid),
    ],
)
def test_so_is_one_of_several_ranks(tmp_path: Path, name: str, parallel: str | None) -> None:
    """Whose head is found by itself, whatever the model is wrapped in."""
    mixed_ranks.run_ranks(tmp_path, name, parallel)


def test_a_mixed_sample_is_scored_at_the_first_pass_of_sam(mixed: list[Mixed]) -> None:
    outcome = run([MixUp(alpha=1.0), SAM()])
    expected: dict[int, dict[str, float]] = {}
    for batch, mix in zip(outcome.account.batches, mixed[::2], strict=True):
        assert len(batch.logits) == len(batch.second) == 1
        expected |= by_id(batch.ids, shares_of(batch.logits[0], LABELS[batch.ids], mix))
    check_ledger(outcome, expected)


@pytest.mark.parametrize("interpolate_loss", [False, True])
@pytest.mark.parametrize("name", MIXERS)
def test_a_mixed_row_is_weighted_with_the_mean_of_its_two_samples(
    mixed: list[Mixed], name: str, interpolate_loss: bool
) -> None:
    """Checked on the gradient at the model's outputs, which for cross entropy has a formula."""

    class Gradients(Callback):
        weighted = 0

        def after_forward(self, state: Any, logger: Any) -> None:
            state.outputs.retain_grad()

        def batch_start(self, state: Any, logger: Any) -> None:
            self.start = 0

        def after_backward(self, state: Any, logger: Any) -> None:
            ids = state.train_dataloader.sample_ids
            agent = next(a for a in state.algorithms if isinstance(a, DataAgent))
            assert agent._selection is not None
            weights = torch.ones(NUM_SAMPLES)
            if agent._selection.weights is not None:
                weights[agent._selection.ids] = torch.from_numpy(agent._selection.weights)
            rows = ids[self.start : self.start + len(state.outputs)]
            self.start += len(state.outputs)
            mix = mixed[-1]
            own, other = LABELS[rows], LABELS[rows][mix.partner]
            one_hot = torch.eye(CLASSES)
            target = mix.own * one_hot[own] + (1 - mix.own) * one_hot[other]
            of_rows = mix.own * weights[rows] + (1 - mix.own) * weights[rows][mix.partner]
            wanted = of_rows[:, None] * (state.outputs.softmax(1) - target) / len(ids)
            torch.testing.assert_close(state.outputs.grad, wanted, rtol=1e-3, atol=1e-7)
            self.weighted += int((of_rows != 1).any())

    gradients = Gradients()
    agent = {"selector": "infobatch", "state": "signals"}
    run(
        [MIXERS[name](interpolate_loss=interpolate_loss)],
        callbacks=[gradients],
        agent=agent,
        device_train_microbatch_size=5,
    )
    assert gradients.weighted > 0
