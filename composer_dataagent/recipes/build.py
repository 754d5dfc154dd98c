# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A recipe to a Composer Trainer."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import composer.algorithms
import composer.callbacks
import composer.loggers
import composer.optim
import torch
from composer import Trainer
from composer.core import Algorithm, Callback, Time, TimeUnit
from composer.loggers import LoggerDestination
from composer.models import HuggingFaceModel
from composer.optim import ComposerScheduler
from composer.utils import (
    create_interval_scheduler,
    dist,
    get_device,
    load_checkpoint,
    reproducibility,
)
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from composer_dataagent.algorithm import DataAgent
from composer_dataagent.recipes.config import Components, Recipe
from composer_dataagent.recipes.data import build_loader
from composer_dataagent.recipes.errors import RecipeError
from composer_dataagent.recipes.lines import wants_lines
from composer_dataagent.recipes.models import MODELS
from composer_dataagent.recipes.nodes import signal_files_of_each_node
from composer_dataagent.recipes.registry import (
    Registry,
    check_arguments,
    classes_of,
    snake_case,
    split_name,
)
from composer_dataagent.recipes.saving import default_save_interval
from composer_dataagent.recipes.tokens import check_tokens


def _module_name(cls: type) -> str:
    """Composer's own snake_case name of an algorithm or callback: that of its module."""
    return cls.__module__.split(".")[-1]


ALGORITHMS = Registry(
    "algorithm",
    {
        "data_agent": DataAgent,
        **classes_of(composer.algorithms, Algorithm, _module_name),
    },
    # Functions and objects, which YAML has none of.
    implied=("schedule", "layers"),
)
CALLBACKS = Registry("callback", classes_of(composer.callbacks, Callback, _module_name))
LOGGERS = Registry(
    "logger",
    classes_of(
        composer.loggers,
        LoggerDestination,
        lambda cls: _module_name(cls).removesuffix("_logger"),
        without=("RemoteUploaderDownloader",),
    ),
)
OPTIMIZERS = Registry(
    "optimizer",
    {
        **classes_of(torch.optim, Optimizer, lambda cls: cls.__name__.lower(), ("LBFGS",)),
        "decoupled_adamw": composer.optim.DecoupledAdamW,
        "decoupled_sgdw": composer.optim.DecoupledSGDW,
    },
    implied=("params",),
)
# Composer's CosineAnnealingWarmRestartsScheduler goes before torch's of the same name.
SCHEDULERS = Registry(
    "scheduler",
    {
        **classes_of(
            torch.optim.lr_scheduler,
            LRScheduler,
            snake_case,
            # Made of functions or other schedulers, or driven by a metric.
            [
                "LambdaLR",
                "MultiplicativeLR",
                "SequentialLR",
                "ChainedScheduler",
                "ReduceLROnPlateau",
            ],
        ),
        **classes_of(
            composer.optim, ComposerScheduler, lambda cls: snake_case(cls, without="Scheduler")
        ),
    },
    implied=("optimizer",),
)
# Of a batch, they change entries 0 and 1, unless they are told others.
_BY_PLACE = frozenset({"mixup", "cutmix", "label_smoothing"})
# Trainer's arguments that the other sections of a recipe give, or that YAML cannot express.
_NOT_FOR_TRAINER = frozenset(
    {
        "model",
        "train_dataloader",
        "train_dataloader_label",
        "eval_dataloader",
        "optimizers",
        "schedulers",
        "algorithms",
        "algorithm_passes",
        "callbacks",
        "loggers",
        "run_name",
        "seed",
        "load_object_store",
        "profiler",
    }
)


def join_ranks(device: Any, timeout: Any = None) -> None:
    """Make this process one of the ranks that train together, or the only one.

    Args:
        device (Any): What the recipe gives as ``trainer.device``, if anything.
        timeout (Any): And as ``trainer.dist_timeout``: the seconds for which ranks wait for one
            another. Default: 300, as Composer's.

    Raises:
        RecipeError: There is no such device, or no such time.
    """
    timeout = 300.0 if timeout is None else timeout
    # Not a bool, which is an int.
    if type(timeout) not in (int, float) or not 0 < timeout < float("inf"):
        raise RecipeError(
            f"trainer.dist_timeout={timeout!r} is not accepted; it is a number of seconds > 0"
        )
    try:
        found = get_device(None if device is None else str(device))
    except Exception as error:
        raise RecipeError(f"trainer.device={device!r} is not accepted: {error}") from error
    if "GROUP_RANK" in os.environ:  # torchrun's word for what Composer looks for
        os.environ.setdefault("NODE_RANK", os.environ["GROUP_RANK"])
    dist.initialize_dist(found, timeout)


def build_trainer(recipe: Recipe) -> Trainer:
    """Make everything that a recipe names.

    Checkpoints go to ``run_dir/checkpoints`` once an epoch (ten times a run, where epochs are few
    and long) and the newest is kept, and a run that finds one there goes on from it, unless the
    recipe's ``trainer`` section says otherwise.

    Args:
        recipe (Recipe): From :func:`~composer_dataagent.recipes.load_recipe`.

    Returns:
        Trainer: Ready for ``fit()``.

    Raises:
        RecipeError: A name, argument or value is not accepted; the message names the key.
    """
    trainer_arguments, duration = check_trainer(recipe)
    join_ranks(trainer_arguments.get("device"), trainer_arguments.get("dist_timeout"))
    parts = build_parts(recipe)
    defaults = {
        "save_folder": str(checkpoint_folder(recipe)),
        "save_interval": default_save_interval(
            duration,
            selects_inside_epochs=any(
                isinstance(each, DataAgent) and each.interval is not None
                for each in parts["algorithms"]
            ),
        ),
        "save_num_checkpoints_to_keep": 1,
        "progress_bar": not wants_lines(recipe.trainer),
        "save_overwrite": recipe.overwrite,
        "autoresume": not recipe.overwrite,
    }
    loaders = {
        "train": build_loader("train_loader", recipe.train_loader, train=True, seed=recipe.seed),
        "eval": (
            build_loader("eval_loader", recipe.eval_loader, train=False, seed=recipe.seed)
            if recipe.eval_loader is not None
            else None
        ),
    }
    for name, loader in loaders.items():
        check_tokens(f"{name}_loader.dataset", getattr(loader, "dataset", None), parts["model"])
    parts |= {"train_dataloader": loaders["train"], "eval_dataloader": loaders["eval"]}
    try:
        with signal_files_of_each_node():
            return Trainer(**parts, **{**defaults, **trainer_arguments})
    except Exception as error:
        checkpoint = _checkpoint_of(error)
        if checkpoint is not None:
            raise _cannot_load(checkpoint, recipe, error) from error
        if isinstance(error, ValueError | TypeError | NotImplementedError):
            raise RecipeError(f"trainer: {error}") from error
        raise


def check_trainer(recipe: Recipe) -> tuple[dict[str, Any], Time]:
    """The arguments of a recipe's ``trainer`` section, and how long the run is.

    Raises:
        RecipeError: One is not accepted.
    """
    arguments = check_arguments(
        "trainer", Trainer, recipe.trainer, _NOT_FOR_TRAINER, defaulted=("model",)
    )
    duration = max_duration(arguments.get("max_duration"))
    for name in ("save_interval", "eval_interval"):
        _check_interval(name, arguments.get(name, "1ep"))
    return arguments, duration


def build_parts(recipe: Recipe) -> dict[str, Any]:
    """Make what a recipe names, but for its data and the Trainer: arguments of that.

    Raises:
        RecipeError: A name, argument or value is not accepted; the message names the key.
    """
    reproducibility.seed_all(recipe.seed)
    model = MODELS.build("model", *split_name("model", recipe.model))
    name, arguments = split_name("optimizer", recipe.optimizer)
    optimizer = OPTIMIZERS.build("optimizer", name, arguments, model.parameters())
    agent_defaults = {
        "seed": recipe.seed,
        "run_dir": recipe.run_dir,
        "overwrite": recipe.overwrite,
    }
    algorithms = _build_all(
        "algorithms", ALGORITHMS, recipe.algorithms, {"data_agent": agent_defaults}
    )
    _check_mixers(recipe, model)
    return {
        "model": model,
        "optimizers": optimizer,
        "schedulers": _build_scheduler(recipe, optimizer),
        "algorithms": algorithms,
        "callbacks": _build_all("callbacks", CALLBACKS, recipe.callbacks),
        "loggers": _build_all("loggers", LOGGERS, recipe.loggers),
        "run_name": recipe.run_name,
        "seed": recipe.seed,
    }


def checkpoint_folder(recipe: Recipe) -> Path:
    """Where a run keeps its checkpoints unless its ``trainer`` section says otherwise."""
    return Path(recipe.run_dir, "checkpoints")


def _checkpoint_of(error: Exception) -> str | None:
    """The path of the checkpoint that Composer was loading when the error came up, if it was."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is load_checkpoint.__code__:
            return frame.f_locals["path"]
    return None


def _cannot_load(checkpoint: str, recipe: Recipe, error: Exception) -> RecipeError:
    given = str(recipe.trainer.get("load_path", "")).endswith(checkpoint)
    remedy = "give another trainer.load_path" if given else "remove it, or give overwrite=true"
    # The file itself, not the link to the newest one.
    file = Path(checkpoint).resolve()
    return RecipeError(f"The checkpoint {file} cannot be loaded: {remedy} ({error})")


def max_duration(value: Any) -> Time:
    """How long a run is.

    Args:
        value (Any): What the recipe gives as ``trainer.max_duration``; a number is epochs.

    Raises:
        RecipeError: It is missing, or no duration.
    """
    if value is None:
        raise RecipeError("The recipe lacks trainer.max_duration, for example 10ep")
    try:
        duration = Time.from_input(value, TimeUnit.EPOCH)
        if duration.value <= 0:
            raise ValueError("it must be more than 0")
    except (ValueError, TypeError, RuntimeError) as error:
        raise RecipeError(
            f"trainer.max_duration={value!r} is not accepted: {error}; for example 10ep, 5000ba"
        ) from error
    return duration


def _check_interval(name: str, interval: Any) -> None:
    try:
        create_interval_scheduler(interval)
        if Time.from_input(interval, TimeUnit.EPOCH).value <= 0:
            raise ValueError("it must be more than 0")
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        raise RecipeError(
            f"trainer.{name}={interval!r} is not accepted: {error}; for example 1ep, 500ba, 0.1dur"
        ) from error


def _check_mixers(recipe: Recipe, model: nn.Module) -> None:
    """Refuse what changes targets by their place in a batch, where batches have names."""
    if not isinstance(model, HuggingFaceModel):
        return
    for name, arguments in recipe.algorithms.items():
        canonical = ALGORITHMS.canonical("algorithms", name)
        if canonical in _BY_PLACE and "target_key" not in (arguments or {}):
            raise RecipeError(
                f"algorithms.{name} takes batches of an input and a target, and a language "
                "model's have input_ids, attention_mask and labels: leave it out"
            )


def _build_all(
    key: str,
    registry: Registry,
    components: Components,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Any]:
    defaults = defaults or {}
    built = []
    for name, arguments in components.items():
        canonical = registry.canonical(key, name)
        more = defaults.get(canonical, {})
        built.append(registry.build(f"{key}.{name}", name, arguments, **more))
    return built


def _build_scheduler(recipe: Recipe, optimizer: Optimizer) -> Any:
    if recipe.scheduler is None:
        return None
    name, arguments = split_name("scheduler", recipe.scheduler)
    factory = SCHEDULERS.factories[SCHEDULERS.canonical("scheduler", name)]
    native = inspect.isclass(factory) and issubclass(factory, LRScheduler)
    given = (optimizer,) if native else ()
    return SCHEDULERS.build("scheduler", name, arguments, *given)
