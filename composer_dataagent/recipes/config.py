# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a recipe may say: YAML with overrides in, a checked :class:`Recipe` out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pydantic
import yaml
from composer.utils.reproducibility import MAX_SEED
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator

from composer_dataagent.recipes.errors import RecipeError, unknown
from composer_dataagent.recipes.registry import squeezed

# {name: ..., **arguments}, or the bare name
Component = str | dict[str, Any]
# name -> arguments; the order counts for algorithms
Components = dict[str, dict[str, Any] | None]
# Sections of a recipe that read data; the second may be absent.
LOADERS = ("train_loader", "eval_loader")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class LoaderConfig(_Section):
    """A streaming dataset and the loader over it.

    Attributes:
        dataset: Name and arguments of the dataset, see ``recipes/data.py``.
        batch_size: Samples per step over all ranks (the global batch).
        num_workers: Worker processes per rank.
        drop_last: Leave out a last batch that is not full.
        persistent_workers: Keep workers between epochs.
        pin_memory: For faster copies to a GPU.
        prefetch_factor: Batches each worker prepares ahead.
    """

    dataset: Component
    batch_size: PositiveInt
    num_workers: NonNegativeInt = 0
    drop_last: bool = False
    persistent_workers: bool = False
    pin_memory: bool = False
    prefetch_factor: PositiveInt | None = None


class Recipe(_Section):
    """A whole training run.

    Attributes:
        run_name: Names the run, in logs and checkpoints, and its folder: no slashes or braces.
        run_dir: Folder for history, report and checkpoints. Default: ``runs/<run_name>``.
        seed: Seeds weights, order and the agent; at most ``2**32 - 1``.
        overwrite: Start anew where ``run_dir`` holds another run.
        model: Name and arguments, see ``recipes/models.py``.
        train_loader: What is trained on.
        eval_loader: What is evaluated on, if anything.
        optimizer: Name and arguments of Composer's or torch's optimizer.
        scheduler: Name and arguments of Composer's or torch's scheduler.
        algorithms: Name to arguments: ``data_agent`` and all of Composer's, in order.
        callbacks: Name to arguments of Composer's callbacks.
        loggers: Name to arguments of Composer's loggers.
        trainer: Arguments of Composer's Trainer that are plain values.
    """

    run_name: str = Field(min_length=1)
    run_dir: str = ""
    seed: int = Field(default=17, ge=0, le=MAX_SEED)
    overwrite: bool = False
    model: Component
    train_loader: LoaderConfig
    eval_loader: LoaderConfig | None = None
    optimizer: Component
    scheduler: Component | None = None
    algorithms: Components = {}
    callbacks: Components = {}
    loggers: Components = {}
    trainer: dict[str, Any]

    @field_validator("run_name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        # Composer replaces what is in braces.
        if name.strip() in ("", ".", "..") or set("/\\{}") & set(name) or not name.isprintable():
            raise ValueError("it names a folder as well, so no slashes, no braces, and not . or ..")
        return name

    @field_validator("algorithms", "callbacks", "loggers")
    @classmethod
    def _named_once(cls, components: Components) -> Components:
        spellings: dict[str, str] = {}
        for name in components:
            first = spellings.setdefault(squeezed(name), name)
            if first != name:
                raise ValueError(f"{first!r} and {name!r} are one name: use {first!r} for both")
        return components

    def model_post_init(self, context: Any) -> None:
        """Put the run folder beside others by default."""
        del context
        if not self.run_dir:
            object.__setattr__(self, "run_dir", str(Path("runs", self.run_name)))


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path (str | Path): A YAML file. With ``extends: OTHER.yaml`` in it, what it does not say is
            as it is in that file, which is looked for from this one's folder.
        overrides (Sequence[str]): ``key=value`` with dotted keys (a mapping is merged into the
            section that is there), or ``~key`` to leave a key out; applied in order.

    Returns:
        Recipe: Checked as far as possible without building anything.

    Raises:
        RecipeError: The file cannot be read, or a key or value is not accepted; the message names
            the key and what it accepts.

    Example:
        >>> from composer_dataagent.recipes import load_recipe
        >>> recipe = load_recipe("yamls/digits.yaml", ["algorithms.data_agent.ratio=0.3"])
        >>> recipe.algorithms
        {'data_agent': {'ratio': 0.3}}
    """
    config = read_yaml(path)
    try:
        for override in overrides:
            config = _apply(config, override)
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, yaml.YAMLError, TypeError, ValueError) as error:
        raise RecipeError(f"{path}: {error}") from error
    try:
        return Recipe.model_validate(plain)
    except pydantic.ValidationError as error:
        raise RecipeError(f"{path}: {_describe(error)}") from None


def read_yaml(path: str | Path, _inside: Sequence[Path] = ()) -> DictConfig:
    """The mapping in a YAML file, variables not yet put in.

    With ``extends: OTHER.yaml``, of the same folder if no other is said, that file's values stand
    where this one gives none. Mappings are merged, key by key; but one that has another ``name``
    replaces the other's whole. An empty ``~key`` leaves out what the other has.

    Args:
        path (str | Path): The file.

    Raises:
        RecipeError: It, or one that it extends, cannot be read, is no mapping or extends itself.
    """
    path = Path(path)
    try:
        whole, config = path.resolve(), OmegaConf.load(path)
    except FileNotFoundError:
        raise RecipeError(f"There is no recipe {str(path)!r}") from None
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise RecipeError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(config, DictConfig):
        raise RecipeError(f"{path} must be a mapping of {', '.join(Recipe.model_fields)}")
    if "extends" not in config:
        return config
    if whole in _inside:
        raise RecipeError(f"{path}: extends goes round in a circle")
    own: Any = OmegaConf.to_container(config)
    other = own.pop("extends")
    if not isinstance(other, str) or not other:
        raise RecipeError(f"{path}: extends={other!r} is not accepted: name another recipe's file")
    base = OmegaConf.to_container(read_yaml(path.parent / other, (*_inside, whole)))
    try:
        return OmegaConf.create(_extended(base, own))
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None


def _extended(base: Any, own: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(own, dict)):
        return own
    if "name" in own and own["name"] != base.get("name"):
        return own
    left_out = [key for key in own if str(key).startswith("~")]
    for key in left_out:
        if own[key] is not None or key[1:] not in base:
            raise RecipeError(
                f"{key} leaves out a key of the recipe that this one extends: one of "
                f"{', '.join(map(str, base))}, and nothing follows the colon"
            )
    kept = {key: value for key, value in base.items() if f"~{key}" not in left_out}
    return kept | {key: _extended(kept.get(key), own[key]) for key in own if key not in left_out}


def _apply(config: DictConfig, override: str) -> DictConfig:
    if override.startswith("~"):
        parent, _, key = override.removeprefix("~").rpartition(".")
        section = OmegaConf.select(config, parent) if parent else config
        if not isinstance(section, DictConfig) or key not in section:
            raise RecipeError(f"{override!r} leaves out a key that the recipe does not have")
        del section[key]
        return config
    if "=" not in override:
        raise RecipeError(
            f"{override!r} is no override: write key=value, for example seed=3, or ~key to leave "
            "a key out"
        )
    merged = OmegaConf.merge(config, OmegaConf.from_dotlist([override]))
    assert isinstance(merged, DictConfig), "both are mappings"
    return merged


def _describe(error: pydantic.ValidationError) -> str:
    """The first problem, in a recipe's words."""
    problem = error.errors()[0]
    # pydantic names the branch of a union after the key: that is no part of the recipe
    keys = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        section: type[BaseModel] = Recipe
        for part in keys[:-1]:
            section = _section_of(section, part)
        inside = f"{'.'.join(keys[:-1])}: " if keys[:-1] else ""
        return str(unknown(f"{inside}key", keys[-1], list(section.model_fields)))
    path = ".".join(key for key in keys if key not in ("str", "dict[str,any]"))
    if problem["type"] == "missing":
        return f"the recipe lacks {path}"
    reason = problem["msg"].removeprefix("Value error, ")
    return f"{path}={problem['input']!r} is not accepted: {reason}"


def _section_of(section: type[BaseModel], name: str) -> type[BaseModel]:
    """The class of a nested section, which may be optional."""
    annotation = section.model_fields[name].annotation
    choices = [annotation, *get_args(annotation)]
    return next(c for c in choices if isinstance(c, type) and issubclass(c, BaseModel))
