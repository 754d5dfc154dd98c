# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The small models by their names: shapes, heads, a learning step, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from composer import Trainer
from torch.utils.data import DataLoader

from composer_dataagent import DataAgent
from composer_dataagent.recipes import RecipeError
from composer_dataagent.recipes.models import MODELS
from composer_dataagent.signals import find_head

IMAGES = {"small_cnn": 64, "resnet8": 64, "tiny_vit": 64}
TEXTS = {"tiny_text_transformer": 64}


def inputs_of(name: str, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if name in TEXTS:
        return torch.randint(8192, (count, 32), generator=generator)
    return torch.randn(count, 1, 28, 28, generator=generator)


@pytest.mark.parametrize(("name", "width"), (IMAGES | TEXTS).items())
@pytest.mark.parametrize("classes", [7, 64])  # 64: as wide as layers that are no head
def test_the_agent_finds_the_head_of_a_small_model(name: str, width: int, classes: int) -> None:
    model = MODELS.build("model", name, {"num_classes": classes})
    logits = model((inputs_of(name, 3), None))
    assert logits.shape == (3, classes) and logits.isfinite().all()
    _, head = find_head(model)
    assert head is model.module[-1]
    assert (head.in_features, head.out_features) == (width, classes)


@pytest.mark.parametrize("name", IMAGES | TEXTS)
def test_a_small_model_trains_with_the_agent(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS.build("model", name, {"num_classes": 3})
    labels = torch.arange(24) % 3
    data = list(zip(inputs_of(name, 24), labels.tolist(), strict=True))
    before = {key: value.clone() for key, value in model.named_parameters()}
    agent = DataAgent(ratio=0.5)
    trainer = Trainer(
        model=model,
        train_dataloader=DataLoader(data, batch_size=8),  # type: ignore[arg-type]  # a list is map-style
        max_duration="2ep",
        algorithms=[agent],
        optimizers=torch.optim.SGD(model.parameters(), 0.1),
        device="cpu",
        progress_bar=False,
    )
    trainer.fit()
    trainer.close()
    assert int(trainer.state.timestamp.sample) == 24 + 12
    unchanged = [key for key, value in model.named_parameters() if torch.equal(before[key], value)]
    assert not unchanged


def test_inputs_of_another_size_are_named() -> None:
    for name, given in [("tiny_vit", {"image_size": 14}), ("tiny_text_transformer", {"length": 4})]:
        model = MODELS.build("model", name, {"num_classes": 3, **given})
        with pytest.raises(ValueError, match=r"for 4 positions, but its input has (16|32)"):
            model((inputs_of(name, 2), None))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("tiny_vit", {"patch_size": 5}, "model: patch_size=5 does not divide image_size=28"),
        ("tiny_vit", {"heads": 3}, "model: heads=3 does not divide dim=64"),
        ("tiny_text_transformer", {"dim": 30}, "model: heads=4 does not divide dim=30"),
    ],
)
def test_sizes_that_do_not_fit_are_named(
    name: str, arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        MODELS.build("model", name, {"num_classes": 3, **arguments})
