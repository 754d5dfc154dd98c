# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a recipe would train, found out before it costs anything."""

from __future__ import annotations

import inspect
import math
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from composer.core import Algorithm, Callback, State
from composer.loggers import Logger
from omegaconf import OmegaConf
from streaming import StreamingDataset

from composer_dataagent.algorithm import DataAgent
from composer_dataagent.doctor import check_local
from composer_dataagent.recipes.build import build_parts, check_trainer
from composer_dataagent.recipes.config import Recipe, load_recipe, read_yaml
from composer_dataagent.recipes.data import DATASETS, build_loader
from composer_dataagent.recipes.errors import RecipeError
from composer_dataagent.recipes.fitting import check_samples
from composer_dataagent.recipes.models import MODELS
from composer_dataagent.recipes.registry import check_arguments, split_name, squeezed
from composer_dataagent.recipes.run import train
from composer_dataagent.recipes.synthetic import with_small_samples, write_synthetic
from composer_dataagent.recipes.tokens import check_tokens
from composer_dataagent.report.run import read_rows
from composer_dataagent.rounds import rounds_per_epoch

_LOADERS = ("train_loader", "eval_loader")
# What a trial on one CPU core leaves out of the `trainer` section.
_NOT_TRIED = ("parallelism_config", "load_path", "load_object_store", "save_folder")
_SMALL_GPT = {"vocab_size": 512, "n_layer": 1, "n_head": 2, "n_embd": 32}
_SMALL_BERT = {
    "vocab_size": 512,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
# What language models call the number of their layers; a trial needs no more than a few.
_LAYERS = {"n_layer", "num_hidden_layers"}
_FEW_LAYERS = 2
# Callbacks that write files, and arguments by which any other would be told where to.
_WRITERS = {squeezed(name) for name in ("checkpoint_saver", "export_for_inference")}
_PLACE = re.compile(r".*(folder|path|dir|directory|filename|file)")
_DEVICES = ("cpu", "gpu", "mps", "tpu", "hpu")
_BATCH_SIZE = 2
_EPOCHS = 2
_MANY = 1_000_000
_MOST_STEPS = 500
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
    for key in _LOADERS:
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
    else:
        stand_in = {"name": "gpt2", "n_positions": length, **_SMALL_GPT}
    if model == "lora":
        stand_in = {"name": "lora", **arguments, "base": stand_in}
    note = f"{absent} is not here: a small model with random weights in its place"
    return recipe.model_copy(update={"model": stand_in}), [note]


def try_out(recipe: Recipe) -> list[str]:
    """Train two epochs of a few steps on random data, on this machine's CPU, and evaluate.

    The code is that of a real run, from the recipe to the report's history: model, optimizer,
    schedule, algorithms, selection, checkpoints, evaluation.

    Args:
        recipe (Recipe): What to try.

    Returns:
        list[str]: What was trained, and what was left out.

    Raises:
        RecipeError: It is refused, see :func:`train`, or ends with an error.
    """
    with tempfile.TemporaryDirectory(prefix="composer_dataagent_") as folder:
        try:
            small, notes = _small(recipe, Path(folder))
            history = train(small, [_StopAfter(_EPOCHS)])
        except RecipeError:
            raise
        except Exception as error:
            raise RecipeError(f"a trial ended with {type(error).__name__}: {error}") from error
        rows = [] if history is None else read_rows(history)
    sizes = " and ".join(str(row["selected"]) for row in rows)
    return [f"trained epochs of {sizes} random samples" if rows else "trained", *notes]


class _StopAfter(Callback):
    """Ends a run early. Its schedules are those of the whole run, so no duration is too short."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def epoch_end(self, state: State, logger: Logger) -> None:
        """Look at the clock."""
        del logger
        if int(state.timestamp.epoch) >= self._epochs:
            state.stop_training()


def _small(recipe: Recipe, folder: Path) -> tuple[Recipe, list[str]]:
    """The recipe on random data and one CPU core, and what it leaves out."""
    recipe, _ = with_stand_in(recipe)
    plain = recipe.model_dump()
    trainer = plain["trainer"]
    left_out = [name for name in _NOT_TRIED if trainer.pop(name, None) is not None]
    if trainer.get("device") not in (None, "cpu") and "precision" in trainer:
        trainer["precision"] = "fp32"
    if trainer.get("device_train_microbatch_size") == "auto":
        del trainer["device_train_microbatch_size"]  # for GPUs
    trainer |= {"device": "cpu", "progress_bar": False}
    left_out += [f"callbacks.{name}" for name in plain["callbacks"] if _writes(plain, name)]
    plain |= {
        "run_dir": str(folder / "run"),
        "overwrite": False,
        "loggers": {},
        "callbacks": {
            name: given for name, given in plain["callbacks"].items() if not _writes(plain, name)
        },
        "algorithms": {
            name: {k: v for k, v in (given or {}).items() if k not in ("run_dir", "overwrite")}
            for name, given in plain["algorithms"].items()
        },
    }
    plain["model"], deeper = _with_few_layers(plain["model"])
    left_out += deeper
    # Made without the recipe's loggers, and checked: what follows asks them.
    parts = build_parts(Recipe.model_validate(plain))
    samples = _samples(parts["algorithms"])
    for key in _LOADERS:
        if plain[key] is None:
            continue
        name, arguments = split_name(f"{key}.dataset", plain[key]["dataset"])
        own = {
            argument: value
            for argument, value in arguments.items()
            if argument not in inspect.signature(StreamingDataset).parameters
        }
        own, larger = with_small_samples(own, parts["model"])
        if larger is not None and larger not in left_out:
            left_out.append(larger)
        count = samples if key == "train_loader" else 2 * _BATCH_SIZE
        write_synthetic(folder / key, str(name), own, parts["model"], count)
        plain[key] = {
            "dataset": {"name": name, **own, "local": str(folder / key)},
            "batch_size": _BATCH_SIZE,
            "drop_last": True,
        }
    notes = [f"tried without {', '.join(left_out)}"] if left_out else []
    return Recipe.model_validate(plain), notes


def _with_few_layers(component: Any) -> tuple[dict[str, Any], list[str]]:
    """A model that a recipe names, with two layers if it is one that takes any number of them."""
    name, arguments = split_name("model", component)
    factory = MODELS.factories[MODELS.canonical("model", name)]
    parameters = inspect.signature(factory).parameters
    for layers in _LAYERS & parameters.keys():
        if arguments.get(layers, parameters[layers].default) > _FEW_LAYERS:
            arguments[layers] = _FEW_LAYERS
            return {"name": name, **arguments}, [f"more than {_FEW_LAYERS} layers of the model"]
    return {"name": name, **arguments}, []


def _samples(algorithms: Sequence[Algorithm]) -> int:
    """Enough for six steps, and for one in each pruned round."""
    steps = 6.0
    for agent in algorithms:
        if isinstance(agent, DataAgent):
            in_parts = agent.interval is not None and agent.interval.endswith("ep")
            # A round of so many batches is longer than the trial's epochs.
            rounds = rounds_per_epoch(agent.interval, _MANY) if in_parts else 1
            steps = max(steps, rounds / agent.ratio)
            if steps > _MOST_STEPS:
                raise RecipeError(
                    f"a trial of ratio={agent.ratio:g} would take {steps:,.0f} steps: leave "
                    "--smoke out, or give a larger ratio for it"
                )
    return _BATCH_SIZE * math.ceil(steps)


def _writes(plain: dict[str, Any], name: str) -> bool:
    """Whether a callback leaves files where the user has some."""
    given = plain["callbacks"][name] or {}
    return squeezed(name) in _WRITERS or any(_PLACE.fullmatch(key) for key in given)


def _is_elsewhere(arguments: dict[str, Any]) -> bool:
    """Whether nothing is where the data are to be; else they are looked at, or found wanting."""
    local = arguments.get("local")
    return local is not None and not Path(str(local)).exists()
