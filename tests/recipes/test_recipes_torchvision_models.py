# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Torchvision's models by name: none downloads anything, all can train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from composer_dataagent.recipes import RecipeError
from composer_dataagent.recipes.models import MODELS
from composer_dataagent.signals import detect_signals


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise AssertionError("a model downloads something")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)


@pytest.mark.parametrize(
    ("name", "size"),
    [("cifar_resnet18", 32), ("googlenet", 64), ("inception_v3", 96), ("swin_t", 64)],
)
def test_classifiers_train(name: str, size: int) -> None:
    model = MODELS.build("model", name, {"num_classes": 5})
    batch = (torch.randn(2, 3, size, size), torch.tensor([1, 4]))
    outputs = model(batch)
    model.loss(outputs, batch).backward()
    assert outputs.shape == (2, 5)
    assert len(detect_signals(model)(outputs, batch)) == 2


def test_a_resnet_for_small_images_keeps_their_size() -> None:
    network = MODELS.build("model", "cifar_resnet18", {"num_classes": 10, "in_channels": 1}).module
    seen = []
    network.layer1.register_forward_hook(lambda *given: seen.append(given[2].shape))
    network(torch.randn(2, 1, 32, 32))
    assert seen == [(2, 64, 32, 32)]


@pytest.mark.parametrize(
    "name", torchvision.models.list_models(module=torchvision.models.segmentation)
)
def test_segmentation_gives_each_pixel_logits(name: str) -> None:
    model = MODELS.build("model", name, {"num_classes": 4}).eval()
    with torch.no_grad():
        assert model((torch.randn(1, 3, 48, 64), None)).shape == (1, 4, 48, 64)


def test_a_batch_without_a_labelled_pixel_does_not_break_the_weights() -> None:
    model = MODELS.build("model", "lraspp_mobilenet_v3_large", {"num_classes": 4})
    batch = (torch.randn(2, 3, 32, 32), torch.full((2, 32, 32), -100))
    loss = model.loss(model(batch), batch)
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_backbone_from_a_file_of_a_classifier(tmp_path: Path) -> None:
    weights = torchvision.models.mobilenet_v3_large().state_dict()
    torch.save(weights, tmp_path / "backbone.pth")
    arguments = {"num_classes": 4, "backbone_file": str(tmp_path / "backbone.pth")}
    model = MODELS.build("model", "lraspp_mobilenet_v3_large", arguments)
    got = model.module.network.backbone.state_dict()
    assert got and all(torch.equal(tensor, weights[f"features.{k}"]) for k, tensor in got.items())


@pytest.mark.parametrize("content", ["missing", "text", "another", "code"])
def test_other_files_are_no_backbone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "backbone.pth"
    if content == "text":
        path.write_text("weights")
    elif content == "another":
        torch.save({"weight": torch.zeros(3)}, path)
    elif content == "code":
        torch.save(_Malicious(tmp_path / "ran"), path)
    arguments = {"num_classes": 4, "backbone_file": str(path)}
    with pytest.raises(RecipeError, match=r"model: backbone_file=.*backbone\.pth"):
        MODELS.build("model", "lraspp_mobilenet_v3_large", arguments)
    assert not (tmp_path / "ran").exists()


class _Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_weights_and_second_heads_cannot_be_asked_for() -> None:
    for name in ("weights_backbone", "aux_loss"):
        with pytest.raises(RecipeError, match=name):
            MODELS.build("model", "fcn_resnet50", {"num_classes": 4, name: True})
    for model in ("resnet18", "cifar_resnet18", "fcn_resnet50"):  # what weights were called before
        with pytest.raises(RecipeError, match="argument 'pretrained' is not known"):
            MODELS.build("model", model, {"num_classes": 1000, "pretrained": True})


def test_a_misspelt_argument_of_a_segmentation_model_is_told() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'backbone_file'"):
        MODELS.build("model", "fcn_resnet50", {"num_classes": 4, "backbone_fle": "x.pth"})
