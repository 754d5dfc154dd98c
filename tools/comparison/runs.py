# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which runs a comparison has, and how one is made: through recipes, as users make theirs."""

from __future__ import annotations

import hashlib
import itertools
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from comparison.methods import METHODS, settings_of
from comparison.rows import row_of
from comparison.shards import train_folder, wrong_labels
from comparison.sources import RECIPES
from composer_dataagent import DataAgent
from composer_dataagent.recipes import Recipe, load_recipe, train
from composer_dataagent.version import __version__

_YAMLS = Path(__file__).parents[2] / "yamls"


@dataclass(frozen=True)
class Job:
    """One run of a comparison.

    Attributes:
        source (str): A name in ``SOURCES``.
        condition (str): What is done to the data.
        selector (str): A name in ``METHODS``.
        ratio (float): Of the default schedule, which sets the budget.
        seed (int): Of data, weights, order and agent: equal for all methods that are compared.
    """

    source: str
    condition: str
    selector: str
    ratio: float
    seed: int

    @property
    def name(self) -> str:
        """Names its run folder."""
        return f"{self.source}-{self.condition}-{self.selector}-{self.ratio:g}-seed{self.seed}"


def jobs_of(
    sources: Sequence[str],
    conditions: Sequence[str],
    selectors: Sequence[str],
    ratios: Sequence[float],
    seeds: Sequence[int],
) -> Iterator[Job]:
    """All combinations, seed by seed: a comparison that is stopped early is one of fewer seeds."""
    for seed, source, condition in itertools.product(seeds, sources, conditions):
        for ratio, selector in itertools.product(ratios, selectors):
            yield Job(source, condition, selector, ratio, seed)


@dataclass(frozen=True)
class Plan:
    """How a run is made.

    Attributes:
        recipe (Recipe): Ready to train.
        train (Path): The shards that it trains on.
        samples (int): How many samples it is to train on.
        full_samples (int): How many a run on full data trains on.
    """

    recipe: Recipe
    train: Path
    samples: int
    full_samples: int


def recipe_file(source: str) -> Path:
    """The recipe that trains on a source."""
    return _YAMLS / f"{RECIPES.get(source, source)}.yaml"


def plan(job: Job, data: Path, runs: Path) -> Plan:
    """The recipe of a run, and what it is to cost.

    Args:
        job (Job): Which run.
        data (Path): Where its source is prepared, see :func:`comparison.shards.prepare`.
        runs (Path): Where run folders go.

    Raises:
        ValueError: The budget is too small for the method.
    """
    recipe = load_recipe(recipe_file(job.source)).model_dump()
    shards = train_folder(data, job.condition, job.seed)
    num_samples = len(wrong_labels(shards))
    epochs = int(recipe["trainer"]["max_duration"].removesuffix("ep"))
    settings = settings_of(
        METHODS[job.selector],
        num_samples,
        epochs,
        recipe["train_loader"]["batch_size"],
        job.ratio,
    )
    recipe |= {"run_name": job.name, "run_dir": str(runs / job.name), "seed": job.seed}
    recipe["train_loader"]["dataset"]["local"] = str(shards)
    recipe["eval_loader"]["dataset"]["local"] = str(data / "eval")
    recipe["algorithms"] = {**recipe["algorithms"], "data_agent": settings["agent"]}
    recipe["trainer"] |= {
        "max_duration": settings["max_duration"],
        "eval_interval": "1dur",  # at the end: what counts
        "progress_bar": False,
    }
    return Plan(Recipe.model_validate(recipe), shards, settings["samples"], epochs * num_samples)


def fingerprint(recipe: Recipe) -> str:
    """What tells settings apart, defaults included, wherever data and runs are kept.

    Changes of the code itself are not seen: rows that they touch are to be deleted.
    """
    plain = recipe.model_dump(exclude={"run_name", "run_dir"})
    for loader in ("train_loader", "eval_loader"):
        plain[loader]["dataset"].pop("local")
    plain["algorithms"]["data_agent"] = DataAgent(
        **plain["algorithms"]["data_agent"]
    ).plain_settings()
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def run_job(job: Job, data: Path, runs: Path) -> dict[str, Any]:
    """Train, or go on with what was stopped; give the row.

    Called in a process of its own, or one after the other.
    """
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    planned = plan(job, data, runs)
    train(planned.recipe)
    measured = row_of(Path(planned.recipe.run_dir), planned.train, planned.samples)
    share = measured["samples"] / planned.full_samples
    # Full data, for however long, needs no DataAgent.
    needs_agent = METHODS[job.selector].spends == "budget"
    return {
        **asdict(job),
        **measured,
        "share": share,
        "cost": share * (1 + measured["overhead"]) if needs_agent else share,
        "recipe": fingerprint(planned.recipe),
        "version": __version__,
    }
