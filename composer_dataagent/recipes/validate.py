# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a recipe would train, found out before it costs anything."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from composer_dataagent.doctor import check_local
from composer_dataagent.recipes.build import build_parts, check_trainer
from composer_dataagent.recipes.config import LOADERS, Recipe, load_recipe, read_yaml
from composer_dataagent.recipes.data import DATASETS, build_loader
from composer_dataagent.recipes.errors import RecipeError
from composer_dataagent.recipes.fitting import check_samples
from composer_dataagent.recipes.models import MODELS
from composer_dataagent.recipes.registry import check_arguments, split_name
from composer_dataagent.recipes.tokens import check_tokens

_SMALL_GPT = {"vocab_size": 512, "n_layer": 1, "n_head": 2, "n_embd": 32}
_SMALL_BERT = {
    "vocab_size": 512,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
_DEVICES = ("cpu", "gpu", "mps", "tpu", "hpu")
# As OmegaConf writes it, without a default.
_VARIABLE = re.compile(r"\$\{oc\.env:\s*(\w+)\s*\}")


def load_for_validation(path: Path, overrides: Sequence[str] = ()) -> tuple[Recipe, list[str]]:
    """Read a recipe, also where environment variables that it names are not set.

    Args:
        path (Path): The YAML file.
        overrides (Sequence[str]): See :func:`load_recipe`.

    Returns:
        tuple[Recipe, list[str]]: It, with the names of such variables in place of their values, and
        a note for each.

    Raises:
        RecipeError: See :func:`load_recipe`.
    """
    text = OmegaConf.to_yaml(read_yaml(path))
    absent = {name for name in _VARIABLE.findall(text) if name not in os.environ}
    os.environ.update({name: f"${name}" for name in absent})
    try:
        return load_recipe(path, overrides), [f"${name} is not set" for name in sorted(absent)]
    finally:
        for name in absent:
            del os.environ[name]


def validate(recipe: Recipe) -> list[str]:
    """Make everything that a recipe names, but for a Trainer; nothing is downloaded or written.

    Args:
        recipe (Recipe): What to look at.

    Returns:
        list[str]: What could not be looked at on this machine.

    Raises:
        RecipeError: A name, argument or value is not accepted, or data that are there do not fit;
            the message names the key.
    """
    arguments, _ = check_trainer(recipe)
    notes = []
    if arguments.get("device") not in (None, *_DEVICES):
        raise RecipeError(
            f"trainer.device={arguments['device']!r} is not accepted: give one of "
            f"{', '.join(_DEVICES)}"
        )
    if (place := check_local(Path(recipe.run_dir))).level == "bad":
        raise RecipeError(f"run_dir: {place.what}")
    if arguments.get("device") == "gpu" and not torch.cuda.is_available():
        notes.append("there is no GPU here")
    recipe, more = with_stand_in(recipe)
    notes += more
    parts = build_parts(recipe)
    unseen = []
    for key in LOADERS:
        config = getattr(recipe, key)
        if config is None:
            continue
        name, arguments = split_name(f"{key}.dataset", config.dataset)
        factory = DATASETS.factories[DATASETS.canonical(f"{key}.dataset: dataset", name)]
        check_arguments(f"{key}.dataset", factory, arguments, implied=("batch_size",))
        if arguments.get("remote") or arguments.get("streams") or _is_elsewhere(arguments):
            unseen.append(arguments.get("remote") or arguments.get("local") or f"streams of {key}")
            continue
        loader = build_loader(key, config, train=key == "train_loader", seed=recipe.seed)
        check_tokens(f"{key}.dataset", loader.dataset, parts["model"])
        check_samples(f"{key}.dataset", loader.dataset, parts["model"])
    return notes + ([f"data not looked at: {', '.join(unseen)}"] if unseen else [])


def with_stand_in(recipe: Recipe) -> tuple[Recipe, list[str]]:
    """The recipe with a small model of random weights where it names one that is not here.

    Args:
        recipe (Recipe): Any.

    Returns:
        tuple[Recipe, list[str]]: It, as it is if nothing is absent, and a note of what was.
    """
    name, arguments = split_name("model", recipe.model)
    model = MODELS.canonical("model", name)
    argument = "base" if model == "lora" else "pretrained"
    absent = arguments.get(argument)
    if not isinstance(absent, str) or Path(absent).exists():
        return recipe, []
    length = split_name("train_loader.dataset", recipe.train_loader.dataset)[1].get("length", 128)
    if model == "pretrained_classifier":
        stand_in = {
            "name": "bert_classifier",
            "num_classes": arguments.get("num_classes"),
            "max_position_embeddings": length,
            **_SMALL_BERT,
        }
    elif model == "pretrained_image_classifier":
        classes = arguments.get("num_classes")
        stand_in = {"name": "resnet8", "num_classes": classes, "in_channels": 3}
    else:
        stand_in = {"name": "gpt2", "n_positions": length, **_SMALL_GPT}
    if model == "lora":
        stand_in = {"name": "lora", **arguments, "base": stand_in}
    note = f"{absent} is not here: a small model with random weights in its place"
    return recipe.model_copy(update={"model": stand_in}), [note]


def _is_elsewhere(arguments: dict[str, Any]) -> bool:
    """Whether nothing is where the data are to be; else they are looked at, or found wanting."""
    local = arguments.get("local")
    return local is not None and not Path(str(local)).exists()
