# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Run a recipe: start it, or go on where it stopped."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from composer import Trainer
from composer.core import Callback, State, Timestamp
from composer.loggers import Logger

from composer_dataagent import collectives
from composer_dataagent.algorithm import DataAgent
from composer_dataagent.recipes.build import build_trainer, checkpoint_folder, join_ranks
from composer_dataagent.recipes.config import Recipe
from composer_dataagent.recipes.errors import RecipeError
from composer_dataagent.recipes.lines import EpochLines, wants_lines
from composer_dataagent.recipes.registry import squeezed
from composer_dataagent.report.atomic import write_atomically
from composer_dataagent.report.hold import Hold, InUseError, leave, refuse_if_held, take
from composer_dataagent.report.run import FINISHED as FINISHED_FILE
from composer_dataagent.report.secrets import hidden

RECIPE_FILE = "recipe.json"
# What may change when a run goes on: how long it is, what is looked at, saved and shown, and where
# it runs. None of it is a setting of the learning itself. It is not always without effect: a
# learning rate schedule stretches with `max_duration`, another `device` has other rounding and,
# where the recipe gives no `precision`, Composer's default for it, and an evaluation or another
# `num_workers` draws other random numbers. Anything that is not listed must stay equal, so also
# what a later Composer adds, and `eval_loader`, since the metrics of one history are compared.
_FREE_SECTIONS = {"callbacks", "loggers", "run_dir"}
_FREE_LOADER_KEYS = {"num_workers", "persistent_workers", "pin_memory", "prefetch_factor"}
_FREE_DATASET_KEYS = {
    *("cache_limit", "predownload", "download_retry", "download_timeout"),
    *("validate_hash", "keep_zip"),
}
_FREE_TRAINER_KEYS = {
    "max_duration",
    "eval_interval",
    "eval_subset_num_batches",
    # Where, when and how many; not save_weights_only and save_ignore_keys, which make a run go on
    # without its optimizer's or the agent's state.
    "save_folder",
    "save_filename",
    "save_latest_filename",
    "save_overwrite",
    "save_interval",
    "save_num_checkpoints_to_keep",
    "save_metrics",
    "progress_bar",
    "load_progress_bar",
    "log_to_console",
    "console_stream",
    "console_log_interval",
    "log_traces",
    "auto_log_hparams",
    "python_log_level",
    "device",
    "dist_timeout",
}
# How the data are fetched, and at what price: which samples are trained on does not depend on it.
_FREE_AGENT_KEYS = {"fetch", "costs"}
# The one callback that changes weights.
_LOAD_CHECKPOINT = "loadcheckpoint"
# With these left alone, checkpoints have the names that _set_unfinished_checkpoints_aside knows.
_CHECKPOINT_NAMES = {"save_folder", "save_filename", "save_latest_filename"}

log = logging.getLogger(__name__)


def train(recipe: Recipe, callbacks: Sequence[Callback] = ()) -> Path | None:
    """Train to the end. A run that was stopped or killed goes on from its last checkpoint.

    Args:
        recipe (Recipe): What to run.
        callbacks (Sequence[Callback]): Beside the recipe's own. Default: none.

    Returns:
        Path | None: The folder of the run's history, of which a report can be made: the run folder,
            unless the recipe gives ``data_agent`` another. None if no history is written, since the
            recipe has no ``data_agent``, or one with ``run_dir: null``.

    Raises:
        RecipeError: Something in the recipe is not accepted, the folder of the run, its history or
            its checkpoints holds another run, or whatever else comes up before the first batch is
            trained. The folder then still is as it was for the recipe put right.
    """
    beginning = _Beginning(recipe)
    try:
        return _train(recipe, [beginning, *callbacks])
    except InUseError as error:
        raise RecipeError(str(error)) from error
    except (ValueError, TypeError, RuntimeError, OSError, LookupError) as error:
        if beginning.passed or isinstance(error, RecipeError):
            raise
        raise RecipeError(f"The run cannot start: {type(error).__name__}: {error}") from error


def _train(recipe: Recipe, callbacks: Sequence[Callback]) -> Path | None:
    run_dir = Path(recipe.run_dir)
    was_begun = (run_dir / RECIPE_FILE).exists() and not recipe.overwrite
    join_ranks(recipe.trainer.get("device"), recipe.trainer.get("dist_timeout"))
    refuse_if_held(run_dir)
    collectives.barrier()  # before the first rank holds it
    if not recipe.overwrite:
        _check_same_run(run_dir, recipe)
        if collectives.rank() == 0 and _names_checkpoints_by_default(run_dir, recipe):
            _set_unfinished_checkpoints_aside(checkpoint_folder(recipe))
        collectives.barrier()
    trainer = build_trainer(recipe)
    trainer.state.callbacks.extend(callbacks)
    if wants_lines(recipe.trainer):
        trainer.state.callbacks.append(EpochLines())
    try:
        timestamp, end = trainer.state.timestamp, trainer.state.max_duration
        assert end is not None, "checked by build_trainer"
        if timestamp < end:
            if collectives.rank() == 0 and (was_begun or timestamp.batch > 0):
                click.echo(_what_is_taken_up(run_dir, timestamp))
            trainer.fit()
        elif collectives.rank() == 0:
            trained = timestamp.get(end.unit).to_timestring()
            click.echo(
                f"{run_dir} has trained {trained} already, max_duration={end}: nothing to do"
            )
        # Not equal: a longer run, finished or not, has done all that this recipe asks for.
        if collectives.rank() == 0 and _stored(run_dir) == _plain(recipe):
            (run_dir / FINISHED_FILE).touch()
    finally:
        trainer.close()
        history = _history_folder(trainer)
        # A notebook lives on, and may keep the trainer.
        for folder in {run_dir, history or run_dir}:
            leave(folder)
    return history


def _what_is_taken_up(run_dir: Path, timestamp: Timestamp) -> str:
    """Whether a run that was begun before goes on, as the terminal is told."""
    batch, epoch = int(timestamp.batch), int(timestamp.epoch)
    if batch == 0:
        return (
            f"{run_dir} was begun before and left no checkpoint: it begins anew (a shorter "
            "trainer.save_interval would have kept more of it)"
        )
    inside = int(timestamp.batch_in_epoch)
    where = f"batch {inside} of epoch {epoch}" if inside else f"the beginning of epoch {epoch}"
    return f"{run_dir} goes on from {where} ({batch} batches are done)"


def is_finished(recipe: Recipe) -> bool:
    """Whether this very recipe has been run to its end."""
    run_dir = Path(recipe.run_dir)
    return (run_dir / FINISHED_FILE).exists() and _stored(run_dir) == _plain(recipe)


class _Beginning(Callback):
    """Puts the recipe into the run folder once the run trains, and not before.

    A run that is refused earlier does not claim the folder, or change what is claimed. It is done
    before the first checkpoint: Composer writes those at later events.

    Attributes:
        passed (bool): Whether a batch has been trained and the recipe is written.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._hold: Hold | None = None
        self.passed = False

    def batch_end(self, state: State, logger: Logger) -> None:
        """The usual beginning."""
        del state, logger
        self._pass()

    def epoch_end(self, state: State, logger: Logger) -> None:
        """A run that is resumed after an epoch's last batch ends the epoch first."""
        del state, logger
        self._pass()

    def _pass(self) -> None:
        if not self.passed and collectives.rank() == 0:
            run_dir = Path(self._recipe.run_dir)
            run_dir.mkdir(parents=True, exist_ok=True)
            self._hold = take(run_dir)  # as the agent may have done; not every recipe has one
            (run_dir / FINISHED_FILE).unlink(missing_ok=True)
            text = json.dumps(_plain(self._recipe), indent=2) + "\n"
            write_atomically(run_dir / RECIPE_FILE, text.encode())
        self.passed = True


def _history_folder(trainer: Trainer) -> Path | None:
    """Where the agent of a run writes its history, if there is one that does."""
    agents = [each for each in trainer.state.algorithms if isinstance(each, DataAgent)]
    folder = agents[0].run_dir if agents else None
    return None if folder is None else Path(folder)


def _names_checkpoints_by_default(run_dir: Path, recipe: Recipe) -> bool:
    """Whether the checkpoints that are there, if any, were written under the default names.

    Only then does the absence of ``latest-rank0.pt`` say anything about them.
    """
    stored = _stored(run_dir)
    if stored is None:  # No run of a recipe has been here: whatever is there is someone else's.
        return False
    for sections in (stored, _plain(recipe)):
        savers = [
            name for name in sections.get("callbacks", {}) if squeezed(name) == "checkpointsaver"
        ]
        if savers or not _CHECKPOINT_NAMES.isdisjoint(sections.get("trainer", {})):
            return False
    return True


def _set_unfinished_checkpoints_aside(folder: Path) -> None:
    """Rename checkpoints that a kill may have cut off to ``<name>.unfinished``.

    Composer writes a checkpoint, then points ``latest`` at it. It resumes from ``latest``, but
    refuses to start while a newer file is there. A kill in between leaves such a file: one that is
    newer than ``latest``, or the run's first, when there is no ``latest`` yet.
    """
    latest = folder / "latest-rank0.pt"
    found = {path: _progress_of(path) for path in folder.glob("ep*-ba*-rank*.pt")}
    if latest.exists():
        finished = _progress_of(latest.resolve())
        if not finished:  # A copy in place of the link: nothing tells which ones are newer.
            return
    elif latest.is_symlink():  # What it names was removed, and not by a kill.
        return
    elif len(set(found.values())) > 1:
        # Not a first checkpoint: the link was lost some other way, and to start from zero would
        # throw away epochs. Composer will refuse to start.
        log.warning(
            "%s holds %d checkpoints and no %s: link the one to go on from under that name",
            folder,
            len(found),
            latest.name,
        )
        return
    else:
        finished = ()
    # Renamed, not deleted: it may be whole, and the only one. An earlier file of the new name is
    # replaced, for it was the same step of the same run, which has got there once more.
    moved = [
        path.replace(path.with_name(f"{path.name}.unfinished")).name
        for path, progress in sorted(found.items())
        if progress > finished
    ]
    if moved:
        log.warning(
            "The writing of a checkpoint may have been cut off: set aside in %s as %s",
            folder,
            ", ".join(moved),
        )


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
        if before.get(key) != now.get(key) and not _is_free(key, now):
            raise RecipeError(
                f"run_dir={str(run_dir)!r} holds a run with {key}={before.get(key)!r}, this recipe "
                f"has {now.get(key)!r}: give it another run_name or run_dir, or overwrite=true"
            )


def _is_free(key: str, leaves: Mapping[str, object]) -> bool:
    """Whether a dotted key of the recipe, of these, may change when a run goes on."""
    match key.split("."):
        case ["trainer", argument, *_]:
            return argument in _FREE_TRAINER_KEYS
        case ["train_loader" | "eval_loader", argument]:
            return argument in _FREE_LOADER_KEYS
        case ["train_loader" | "eval_loader", "dataset", *_, "local"]:
            # The cache of what is elsewhere: of the same data, for `remote` must stay equal.
            return leaves.get(f"{key.removesuffix('local')}remote") is not None
        case ["train_loader" | "eval_loader", "dataset", *_, argument]:
            return argument in _FREE_DATASET_KEYS
        case ["algorithms", name, argument, *_] if squeezed(name) == "dataagent":
            return argument in _FREE_AGENT_KEYS
        case ["callbacks", name, *_]:
            return squeezed(name) != _LOAD_CHECKPOINT
        case parts:
            return parts[0] in _FREE_SECTIONS


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
    # As it is kept: a key that was changed since does not make it another run.
    return hidden(recipe.model_dump(mode="json", exclude={"overwrite"}))


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
