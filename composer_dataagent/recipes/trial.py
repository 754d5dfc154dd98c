# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A recipe tried in small: a few steps on random data and one CPU core."""

from __future__ import annotations

import inspect
import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from composer.core import Algorithm, Callback, State
from composer.loggers import Logger
from streaming import StreamingDataset

from composer_dataagent.algorithm import DataAgent
from composer_dataagent.recipes.build import build_parts
from composer_dataagent.recipes.config import LOADERS, Recipe
from composer_dataagent.recipes.errors import RecipeError
from composer_dataagent.recipes.models import MODELS
from composer_dataagent.recipes.registry import split_name, squeezed
from composer_dataagent.recipes.run import train
from composer_dataagent.recipes.synthetic import with_small_samples, write_synthetic
from composer_dataagent.recipes.validate import with_stand_in
from composer_dataagent.report.run import read_rows
from composer_dataagent.rounds import rounds_per_epoch

# What a trial on one CPU core leaves out of the `trainer` section.
_NOT_TRIED = ("parallelism_config", "load_path", "load_object_store", "save_folder")
# What language models call the number of their layers; a trial needs no more than a few.
_LAYERS = {"n_layer", "num_hidden_layers"}
_FEW_LAYERS = 2
# Callbacks that write files, and arguments by which any other would be told where to.
_WRITERS = {squeezed(name) for name in ("checkpoint_saver", "export_for_inference")}
_PLACE = re.compile(r".*(folder|path|dir|directory|filename|file)")
_BATCH_SIZE = 2
_EPOCHS = 2
_MANY = 1_000_000
_MOST_STEPS = 500


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
    for key in LOADERS:
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
