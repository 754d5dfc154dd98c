# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Run a recipe: start it, or go on where it stopped."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from composer.utils import dist, get_device

from composer_dataagent import collectives
from composer_dataagent.recipes.build import build_trainer, checkpoint_folder
from composer_dataagent.recipes.config import Recipe
from composer_dataagent.recipes.errors import RecipeError

RECIPE_FILE = "recipe.json"
FINISHED_FILE = "finished"
# What may change when a run goes on: nothing here changes what is learned from what.
_FREE_SECTIONS = {"trainer", "callbacks", "loggers", "overwrite", "run_dir"}
_FREE_KEYS = {"num_workers", "persistent_workers", "pin_memory", "prefetch_factor"}


def train(recipe: Recipe) -> Path:
    """Train to the end. A run that was stopped or killed goes on from its last checkpoint.

    Args:
        recipe (Recipe): What to run.

    Returns:
        Path: The run folder.

    Raises:
        RecipeError: Something in the recipe is not accepted, or the run folder holds a run of
            another recipe.
    """
    run_dir = Path(recipe.run_dir)
    dist.initialize_dist(get_device(recipe.trainer.get("device")))
    if not recipe.overwrite:
        _check_same_run(run_dir, recipe)
        if collectives.rank() == 0:
            _drop_unfinished_checkpoints(checkpoint_folder(recipe))
        collectives.barrier()
    trainer = build_trainer(recipe)
    try:
        if collectives.rank() == 0:
            _prepare(run_dir, recipe)
        collectives.barrier()
        assert trainer.state.max_duration is not None, "checked by build_trainer"
        if trainer.state.timestamp < trainer.state.max_duration:
            trainer.fit()
        if collectives.rank() == 0:
            (run_dir / FINISHED_FILE).touch()
    finally:
        trainer.close()
    return run_dir


def is_finished(recipe: Recipe) -> bool:
    """Whether this very recipe has been run to its end."""
    run_dir = Path(recipe.run_dir)
    return (run_dir / FINISHED_FILE).exists() and _stored(run_dir) == _plain(recipe)


def _prepare(run_dir: Path, recipe: Recipe) -> None:
    (run_dir / FINISHED_FILE).unlink(missing_ok=True)
    if recipe.overwrite:
        # Only now that the new run is known to build.
        shutil.rmtree(checkpoint_folder(recipe), ignore_errors=True)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / RECIPE_FILE).write_text(json.dumps(_plain(recipe), indent=2) + "\n")


def _drop_unfinished_checkpoints(folder: Path) -> None:
    """Remove checkpoints that a kill cut off: newer than the one that ``latest`` names.

    Composer writes a checkpoint, then points ``latest`` at it. It resumes from ``latest``, but
    refuses to start while a newer file is there.
    """
    latest = folder / "latest-rank0.pt"
    finished = _progress_of(latest.resolve()) if latest.exists() else ()
    for path in folder.glob("ep*-ba*-rank*.pt"):
        if _progress_of(path) > finished:
            path.unlink()


def _progress_of(checkpoint: Path) -> tuple[int, ...]:
    """Epoch and batch in the name that Composer gives a checkpoint by default."""
    match = re.fullmatch(r"ep(\d+)-ba(\d+)-rank\d+\.pt", checkpoint.name)
    return () if match is None else (int(match[1]), int(match[2]))


def _check_same_run(run_dir: Path, recipe: Recipe) -> None:
    stored = _stored(run_dir)
    if stored is None:
        return
    before, now = dict(_leaves(stored)), dict(_leaves(_plain(recipe)))
    for key in sorted(before.keys() | now.keys()):
        parts = key.split(".")
        free = parts[0] in _FREE_SECTIONS or parts[-1] in _FREE_KEYS
        if not free and before.get(key) != now.get(key):
            raise RecipeError(
                f"run_dir={str(run_dir)!r} holds a run with {key}={before.get(key)!r}, this recipe "
                f"has {now.get(key)!r}: give it another run_name or run_dir, or overwrite=true"
            )


def _stored(run_dir: Path) -> dict[str, Any] | None:
    try:
        return json.loads((run_dir / RECIPE_FILE).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RecipeError(
            f"{run_dir / RECIPE_FILE} is damaged ({error}): use another run_dir, or overwrite=true"
        ) from error


def _plain(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude={"overwrite"})


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
