# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Images with a class for each pixel: as a data set serves them, and trained on with selection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from streaming import MDSWriter
from torch import Tensor

from composer_dataagent.recipes import Recipe, train
from composer_dataagent.recipes.images import ImageSegmentation
from composer_dataagent.report import read_run

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
MASK = np.array([[0, 1, 2, 255] * 2] * 6, np.uint8)


def write(folder: Path, *samples: tuple[Any, Any], mask: str = "png") -> str:
    with MDSWriter(out=str(folder), columns={"image": "png", "mask": mask}) as out:
        for image, classes in samples:
            out.write({"image": image, "mask": classes})
    return str(folder)


def first(local: str, **arguments: Any) -> tuple[Tensor, Tensor]:
    return ImageSegmentation(local=local, batch_size=1, **arguments)[0]


@pytest.mark.parametrize(
    ("arguments", "labels"),
    [
        ({}, [0, 1, 2, -100]),
        ({"ignore": 2}, [0, 1, -100, 255]),
        ({"reduce_labels": True}, [-100, 0, 1, -100]),
    ],
)
@pytest.mark.parametrize("encoding", ["png", "palette", "ndarray:uint8"])
def test_masks_become_labels(
    tmp_path: Path, arguments: dict[str, Any], labels: list[int], encoding: str
) -> None:
    mask: Any = MASK
    if encoding != "ndarray:uint8":
        mask = Image.fromarray(MASK)
    if encoding == "palette":  # what is stored are classes, not colours
        mask.putpalette([255 - i // 3 for i in range(768)])
    kind = encoding if encoding == "ndarray:uint8" else "png"
    local = write(tmp_path / "x", (Image.fromarray(PIXELS), mask), mask=kind)
    image, classes = first(local, mean=0.0, std=1.0, **arguments)
    torch.testing.assert_close(image, torch.from_numpy(PIXELS).movedim(-1, 0) / 255)
    assert classes.dtype == torch.int64 and classes.tolist() == [labels * 2] * 6


def test_a_transform_moves_image_and_mask_alike(tmp_path: Path) -> None:
    # The mask says what is in the image, so that it shows when one moves without the other.
    image = np.repeat(MASK[:, :, None], 3, axis=2)
    local = write(tmp_path / "x", (Image.fromarray(image), Image.fromarray(MASK)))
    crop = {"name": "random_crop", "size": 4, "padding": 2}
    steps = [crop, {"name": "random_horizontal_flip"}]
    dataset = ImageSegmentation(
        local=local, batch_size=1, transforms=steps, mean=0.0, std=1 / 255, ignore=99
    )
    torch.manual_seed(0)
    outside = 0
    for _ in range(20):
        pixels, labels = dataset[0]
        assert type(pixels) is Tensor and type(labels) is Tensor  # as collating them takes them
        assert pixels.shape == (3, 4, 4) and labels.shape == (4, 4)
        there = labels != -100  # and not added by the transform
        assert torch.equal(pixels[0][there].round().long(), labels[there])
        outside += int((~there).sum())
    assert outside


@pytest.mark.parametrize(
    "step",
    [
        {"name": "pad", "padding": 2, "fill": 127},
        {"name": "pad", "padding": 2, "fill": [1, 2, 3]},
        {"name": "random_rotation", "degrees": [45, 45], "fill": 127},
        {"name": "random_crop", "size": 12, "pad_if_needed": True, "fill": 127},
    ],
)
def test_a_colour_that_fills_borders_is_no_class(tmp_path: Path, step: dict[str, Any]) -> None:
    ones = Image.fromarray(np.ones_like(MASK))
    local = write(tmp_path / "x", (Image.fromarray(PIXELS), ones))
    image, labels = first(local, mean=0.0, std=1.0, transforms=[step])
    assert labels.unique().tolist() == [-100, 1]
    fill = torch.as_tensor(step["fill"]).expand(3) / 255
    assert (image[:, labels == -100].T - fill).abs().max() < 1e-6


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    local = write(tmp_path / "x", (Image.fromarray(PIXELS), Image.fromarray(MASK[:4])))
    with pytest.raises(ValueError, match=r"mask of sample 0 is \[4, 8\], and its image \[6, 8\]"):
        first(local)


def test_segmentation_of_real_digits_learns(tmp_path: Path) -> None:
    images, classes = load_digits(return_X_y=True)

    def scene(i: int) -> tuple[Image.Image, Image.Image]:
        ink = np.kron(images[i].reshape(8, 8), np.ones((4, 4)))
        pixels = np.repeat((ink * 15).astype(np.uint8)[:, :, None], 3, axis=2)
        # 0 is no class: the paper; then the digits below 5, and the others
        mask = np.where(ink > 4, 1 + (classes[i] >= 5), 0).astype(np.uint8)
        return Image.fromarray(pixels), Image.fromarray(mask)

    data = {
        "train": write(tmp_path / "train", *map(scene, range(32))),
        "eval": write(tmp_path / "eval", *map(scene, range(32, 40))),
    }
    dataset = {"name": "image_segmentation", "reduce_labels": True}
    recipe = Recipe.model_validate(
        {
            "run_name": "segmentation",
            "run_dir": str(tmp_path / "run"),
            "model": {"name": "lraspp_mobilenet_v3_large", "num_classes": 2},
            "train_loader": {"dataset": {**dataset, "local": data["train"]}, "batch_size": 8},
            "eval_loader": {"dataset": {**dataset, "local": data["eval"]}, "batch_size": 8},
            "optimizer": {"name": "adamw", "lr": 2e-3},
            "algorithms": {"data_agent": {"ratio": 0.5, "signals": {"max_tokens": 256}}},
            "trainer": {"max_duration": "2ep", "device": "cpu", "progress_bar": False},
        }
    )
    train(recipe)
    rows = read_run(tmp_path / "run").rows
    assert [row["selected"] for row in rows] == [32, 16]
    assert rows[-1]["mean_loss"] < rows[0]["mean_loss"]
    assert all(0 <= row["metrics"]["eval/MIoU"] <= 100 for row in rows)
    assert all(row["label_trust"] is None for row in rows)  # an image has no one label
