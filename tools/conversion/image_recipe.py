# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A recipe that trains on images that were converted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from composer_dataagent.streaming.index_file import SPLITS
from conversion.image_shards import ImageCounts

# Images with a longer side are for models that see 224 pixels of it.
_SMALL = 64
_RATIO = 0.5
_EPOCHS = 12
# Fewer steps teach a model nothing; a run that has them after fewer epochs is long enough.
_STEPS = 400
_MOST_EPOCHS = 100


def recipe_of(
    out: Path,
    splits: Mapping[str | None, ImageCounts],
    classes: Sequence[str] | None,
    remote: str | None,
    is_local: bool,
    columns: tuple[str, str] = ("image", "label"),
) -> str:
    """YAML for ``composer-dataagent train``.

    Args:
        out (Path): Folder of the data; names the run.
        splits (Mapping[str | None, ImageCounts]): What was written, by the names of the splits.
        classes (Sequence[str] | None): Names of the classes, if there are any.
        remote (str | None): Where the data are, too.
        is_local (bool): Whether they are in ``out``, not just in ``remote``.
        columns (tuple[str, str]): Names of image and label. Default: ``image`` and ``label``.

    Returns:
        str: A small model and schedule to begin with, and the whole of what is about the data.
    """
    counts = sum(splits.values(), ImageCounts())
    evaluated = next((name for name in SPLITS[1:] if name in splits and len(splits) > 1), None)
    trained = next(name for name in splits if evaluated is None or name != evaluated)
    is_small = max(*counts.widths, *counts.heights) <= _SMALL
    model: dict[str, Any] = {"name": "resnet8" if is_small else "resnet18"}
    model["num_classes"] = max(counts.classes, len(classes or ()))
    if is_small and "RGB" in counts.of_mode:
        model["in_channels"] = 3

    def loader(split: str | None, train: bool) -> dict[str, Any]:
        dataset: dict[str, Any] = {"name": "image_classification"}
        usual = zip(("image", "label"), columns, strict=True)
        dataset |= {use: column for use, column in usual if column != use}
        if is_local:
            dataset["local"] = str(out / (split or ""))
        else:
            dataset["remote"] = f"{remote}/{split}" if split else remote
            dataset["local"] = str(out / "cache" / (split or ""))
        if transforms := _transforms(counts, is_small, train):
            dataset["transforms"] = transforms
        size = batch_size if train else min(128, splits[split].samples)
        return {"dataset": dataset, "batch_size": size}

    batch_size, epochs = _schedule(splits[trained].samples)
    agent: dict[str, Any] = {"ratio": _RATIO}
    if classes is not None:
        agent["class_names"] = [*classes]
    recipe = {
        "run_name": re.sub(r"[/\\{}$]|[^\x20-\x7e]", "_", out.resolve().name).strip(" .")
        or "images",
        "model": model,
        "train_loader": loader(trained, True),
        **({"eval_loader": loader(evaluated, False)} if evaluated is not None else {}),
        "optimizer": {"name": "adamw", "lr": 0.001},
        "scheduler": {"name": "cosine_annealing_with_warmup", "t_warmup": "0.2dur"},
        "algorithms": {"data_agent": agent},
        "trainer": {"max_duration": f"{epochs}ep"},
    }
    return yaml.safe_dump(_literal(recipe), sort_keys=False, default_flow_style=None, width=100)


def _schedule(samples: int) -> tuple[int, int]:
    """Batch size, a power of two, and epochs with which so few samples, too, teach something."""
    batch_size = 128
    while batch_size > 1 and batch_size * 8 > samples * _RATIO:
        batch_size //= 2
    steps = max(1, int(samples * _RATIO) // batch_size)
    return batch_size, min(_MOST_EPOCHS, max(_EPOCHS, -(-_STEPS // steps)))


def _literal(value: Any) -> Any:
    """Names and paths in which nothing is taken for another value of the recipe."""
    if isinstance(value, dict):
        return {key: _literal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_literal(inner) for inner in value]
    if value == "???":  # which OmegaConf takes for a value that is to come
        return "??? "
    return value.replace("${", "\\${") if isinstance(value, str) else value


def _transforms(counts: ImageCounts, is_small: bool, train: bool) -> list[dict[str, Any]]:
    """What makes images of one size, and of as many channels."""
    transforms: list[dict[str, Any]] = []
    if counts.of_mode["L"] and (counts.of_mode["RGB"] or not is_small):
        transforms.append({"name": "rgb"})
    if not is_small:
        if train:
            transforms.append({"name": "random_resized_crop", "size": 224})
            transforms.append({"name": "random_horizontal_flip"})
        else:
            transforms.append({"name": "resize", "size": 256})
            transforms.append({"name": "center_crop", "size": 224})
    elif counts.widths[0] < counts.widths[1] or counts.heights[0] < counts.heights[1]:
        transforms.append({"name": "resize", "size": [counts.heights[1], counts.widths[1]]})
    return transforms
