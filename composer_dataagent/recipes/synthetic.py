# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Random data of the shape that a recipe asks for, to try it where its data are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from streaming import MDSWriter
from torch import nn

from composer_dataagent.recipes.data import DATASETS
from composer_dataagent.recipes.errors import RecipeError
from composer_dataagent.recipes.images import build_transforms
from composer_dataagent.signals.huggingface import huggingface_model

Draw = Callable[[np.random.Generator], dict[str, Any]]
# Heights and widths of images that models of a fixed size may want, smallest first.
_SIZES = (28, 32, 64, 224, 384, 518)
# Of a trial's images, where the recipe has larger ones and the model takes any.
_SMALL = 64
# Likewise of a trial's sequences, in tokens.
_SHORT = 64
# Where a model does not say how many classes there are.
_CLASSES = 2
_VOCABULARY = 256


def write_synthetic(
    folder: Path, dataset: str, arguments: Mapping[str, Any], model: nn.Module, count: int
) -> None:
    """Write random samples as MDS shards.

    Args:
        folder (Path): Gets the shards; it must not exist.
        dataset (str): Name of the dataset that is to read them.
        arguments (Mapping[str, Any]): What the recipe gives it.
        model (nn.Module): That is to be trained on them.
        count (int): How many samples.

    Raises:
        RecipeError: The model takes no images of any usual size.
    """
    columns, draw = _MAKERS[DATASETS.canonical("dataset", dataset)](arguments, model)
    rng = np.random.default_rng(0)
    with MDSWriter(out=str(folder), columns=columns, size_limit=1 << 16) as out:
        for _ in range(count):
            out.write(draw(rng))


def with_small_samples(
    arguments: Mapping[str, Any], model: nn.Module
) -> tuple[dict[str, Any], str | None]:
    """What a recipe gives its dataset, with shorter texts, and smaller images where they are taken.

    Args:
        arguments (Mapping[str, Any]): What the recipe gives.
        model (nn.Module): That is to be trained on them.

    Returns:
        tuple[dict[str, Any], str | None]: The same but for the ``length`` of sequences, 64 tokens
        at most, and the ``size`` of transforms, of which the largest becomes 64 pixels and the
        others in proportion, if the model does not want it as it was; and what was left out.
    """
    if arguments.get("length", 0) > _SHORT:
        return {**arguments, "length": _SHORT}, f"more than {_SHORT} tokens of a sequence"
    given = arguments.get("transforms", ())
    steps: list[dict[str, Any]] = [{"name": s} if isinstance(s, str) else dict(s) for s in given]
    sized = [step for step in steps if isinstance(step.get("size"), int)]
    largest = max((step["size"] for step in sized), default=0)
    if largest <= _SMALL:
        return dict(arguments), None
    for step in sized:
        step["size"] = max(1, step["size"] * _SMALL // largest)
    try:
        _size(model, _channels(model), steps)
    except RecipeError:
        return dict(arguments), None
    return {**arguments, "transforms": steps}, f"images larger than {_SMALL} pixels"


def _images(arguments: Mapping[str, Any], model: nn.Module) -> tuple[dict[str, str], Draw]:
    image, label = (arguments.get(name, name) for name in ("image", "label"))
    shape, classes = _image_shape(arguments, model), _classes(model)

    def draw(rng: np.random.Generator) -> dict[str, Any]:
        pixels = rng.integers(0, 256, shape, np.uint8)
        kept = Image.fromarray(pixels) if is_image else pixels
        return {image: kept, label: int(rng.integers(classes))}

    is_image = len(shape) == 2 or shape[2] in (3, 4)
    return {image: "png" if is_image else "ndarray:uint8", label: "int"}, draw


def _masked_images(arguments: Mapping[str, Any], model: nn.Module) -> tuple[dict[str, str], Draw]:
    image, mask = (arguments.get(name, name) for name in ("image", "mask"))
    shape = _image_shape(arguments, model)
    classes = min(_classes(model) + bool(arguments.get("reduce_labels")), 256)

    def draw(rng: np.random.Generator) -> dict[str, Any]:
        pixels = rng.integers(0, 256, shape, np.uint8)
        labels = rng.integers(0, classes, shape[:2], np.uint8)
        return {image: Image.fromarray(pixels), mask: Image.fromarray(labels)}

    return {image: "png", mask: "png"}, draw


def _image_shape(arguments: Mapping[str, Any], model: nn.Module) -> tuple[int, ...]:
    channels = _channels(model)
    size = _size(model, channels, arguments.get("transforms", ()))
    return (size, size) if channels == 1 else (size, size, channels)


def _texts(arguments: Mapping[str, Any], model: nn.Module) -> tuple[dict[str, str], Draw]:
    text, label = (arguments.get(name, name) for name in ("text", "label"))
    classes = _classes(model)

    def draw(rng: np.random.Generator) -> dict[str, Any]:
        words = " ".join(f"word{i}" for i in rng.integers(1000, size=20))
        return {text: words, label: int(rng.integers(classes))}

    return {text: "str", label: "int"}, draw


def _tokens(arguments: Mapping[str, Any], model: nn.Module) -> tuple[dict[str, str], Draw]:
    length, classes = int(arguments["length"]), _classes(model)
    config = getattr(huggingface_model(model), "config", None)
    vocabulary = int(getattr(config, "vocab_size", _VOCABULARY))

    def draw(rng: np.random.Generator) -> dict[str, Any]:
        tokens = rng.integers(vocabulary, size=length, dtype=np.uint32)
        return {"tokens": tokens, "label": int(rng.integers(classes))}

    return {"tokens": f"ndarray:uint32:{length}", "label": "int"}, draw


# What a recipe gives its dataset, and the model, to the columns and a sample of them.
_MAKERS: dict[str, Callable[[Mapping[str, Any], nn.Module], tuple[dict[str, str], Draw]]] = {
    "image_classification": _images,
    "image_segmentation": _masked_images,
    "text_classification": _texts,
    "token_sequences": _tokens,
    "sequence_classification": _tokens,
}


def _channels(model: nn.Module) -> int:
    """Of the images that a model takes."""
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    first = next(convolutions, None)
    return 3 if first is None else first.in_channels


@torch.no_grad()
def _size(model: nn.Module, channels: int, transforms: Sequence[str | Mapping[str, Any]]) -> int:
    """Height and width of the smallest images of which transforms make what a model takes."""
    transform = build_transforms(transforms)
    was_training = model.training
    model.eval()
    try:
        for size in _SIZES:
            image = torch.zeros(channels, size, size, dtype=torch.uint8)
            try:
                pixels = image if transform is None else transform(image)
                model((pixels[None].float(), torch.zeros(1, dtype=torch.int64)))
            except (RuntimeError, ValueError, AssertionError):
                continue
            return size
    finally:
        model.train(was_training)
    raise RecipeError(
        f"The model takes no images of {channels} channels and {', '.join(map(str, _SIZES))} "
        "pixels: give the data set transforms (resize), or say their size to the model"
    )


def _classes(model: nn.Module) -> int:
    config = getattr(huggingface_model(model), "config", None)
    return int(getattr(model, "num_classes", None) or getattr(config, "num_labels", _CLASSES))
