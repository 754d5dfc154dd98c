# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The digits as shards, and images as a recipe's dataset serves them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from streaming import MDSWriter, StreamingDataset

from composer_dataagent.recipes import RecipeError
from composer_dataagent.recipes.config import LoaderConfig
from composer_dataagent.recipes.data import build_loader
from composer_dataagent.recipes.digits import prepare_digits
from composer_dataagent.recipes.images import ImageClassification


def test_the_digits_are_scikit_learns(digits: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    keys = [image.round().astype(np.uint8).tobytes() for image in images]
    known = dict(zip(keys, labels, strict=True))
    seen = set()
    sizes = {}
    for split in ("train", "eval"):
        dataset = StreamingDataset(local=str(digits / split), batch_size=1)
        sizes[split] = len(dataset)
        assert len(dataset.shards) > 5
        for i in range(len(dataset)):
            sample = dataset[i]
            key = (np.asarray(sample["image"]) / (255 / 16)).round().astype(np.uint8).tobytes()
            assert known[key] == sample["label"]
            seen.add(key)
    assert sizes == {"train": 1437, "eval": 360}
    assert len(seen) == len(known)


def test_prepared_digits_are_left_alone(digits: Path) -> None:
    before = {path: os.stat(path).st_mtime_ns for path in digits.rglob("*")}
    prepare_digits(digits)
    assert before == {path: os.stat(path).st_mtime_ns for path in digits.rglob("*")}


def test_a_missing_split_is_made_again(tmp_path: Path) -> None:
    prepare_digits(tmp_path)
    for path in (tmp_path / "eval").iterdir():
        path.unlink()
    (tmp_path / "eval").rmdir()
    prepare_digits(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["eval", "train"]
    assert (tmp_path / "eval/index.json").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match=r"file/digits cannot be written: .*Not a directory"):
        prepare_digits(tmp_path / "file" / "digits")


def test_what_a_killed_process_left_half_made_is_no_obstacle(digits: Path) -> None:
    names = (Path("/dev/shm", f"{n:06}_locals") for n in range(10**6))
    left = next(path for path in names if not path.exists())
    left.touch()
    try:
        dataset = {"name": "image_classification", "local": str(digits / "eval")}
        config = LoaderConfig(dataset=dataset, batch_size=8)
        assert len(build_loader("eval_loader", config, train=False, seed=0)) == 45
        assert not left.exists() or left.stat().st_size > 0
    finally:
        if left.exists() and left.stat().st_size == 0:
            left.unlink()


@pytest.mark.parametrize(
    ("encoding", "shape"), [("png", (8, 6, 3)), ("ndarray:uint8", (8, 6, 3)), ("png", (8, 6))]
)
def test_images_become_normalised_tensors(
    tmp_path: Path, encoding: str, shape: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with MDSWriter(out=str(tmp_path), columns={"picture": encoding, "y": "int"}) as writer:
        image = Image.fromarray(pixels) if encoding == "png" else pixels
        writer.write({"picture": image, "y": 3})
    channels = shape[2] if len(shape) == 3 else 1
    mean, std = [0.1, 0.2, 0.3][:channels], [0.5, 0.25, 0.2][:channels]
    arguments = {"image": "picture", "label": "y", "mean": mean, "std": std, "batch_size": 1}
    image, label = ImageClassification(local=str(tmp_path), **arguments)[0]
    assert label == 3 and image.dtype == torch.float32 and image.shape == (channels, 8, 6)
    reference = pixels.reshape(8, 6, channels).astype(np.float64) / 255
    reference = ((reference - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(image.numpy(), reference, atol=1e-5)


def test_brightness_of_16_bits_is_on_the_scale_of_others(tmp_path: Path) -> None:
    pixels = np.arange(48, dtype=np.uint16).reshape(8, 6) * 1365
    with MDSWriter(out=str(tmp_path), columns={"image": "png", "label": "int"}) as writer:
        writer.write({"image": Image.fromarray(pixels), "label": 0})
    image, _ = ImageClassification(local=str(tmp_path), batch_size=1, mean=0.0, std=1.0)[0]
    np.testing.assert_allclose(image.numpy()[0], pixels / 65535, atol=1 / 255)


def test_transforms_by_name(digits: Path) -> None:
    flip = {"name": "random_horizontal_flip", "p": 1.0}
    local = {"local": str(digits / "eval"), "batch_size": 1}
    plain, _ = ImageClassification(**local)[0]
    flipped, _ = ImageClassification(transforms=[flip], **local)[0]
    assert torch.equal(flipped, plain.flip(-1))
    with pytest.raises(RecipeError, match=r"transforms\.0: transform 'flip'"):
        ImageClassification(transforms=[{"name": "flip"}], **local)
