# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a run will download, told before it from the index of its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
from composer.core import TimeUnit
from numpy.typing import NDArray
from streaming.base.util import bytes_to_int
from tqdm import tqdm

from composer_dataagent.algorithm import DataAgent
from composer_dataagent.recipes.build import ALGORITHMS, max_duration
from composer_dataagent.recipes.config import Recipe, load_recipe
from composer_dataagent.recipes.errors import RecipeError, at_least
from composer_dataagent.recipes.registry import split_name
from composer_dataagent.selection.schedule import RatioSchedule, size_for
from composer_dataagent.streaming.costs import Costs
from composer_dataagent.streaming.egress import ShardSizes
from composer_dataagent.streaming.forecast import MODES, by_ratio, forecast, some_shards
from composer_dataagent.streaming.index_file import IndexFile, read_index

# Of the picture: each costs about as much as an epoch of the simulation.
RATIOS = tuple(np.linspace(0.05, 1, 20).round(2).tolist())
_MOST_EPOCHS = 10_000
_BETWEEN = (
    "The recipe's egress_weight is not simulated: it reads something between a selection of "
    "samples anywhere and one of whole shards, the larger the closer to the latter.",
)


@dataclass(frozen=True)
class PlannedRun:
    """A run as far as its downloads depend on it.

    Attributes:
        source (str): Folder or URL of the data.
        split (str | None): Folder within it. Default: none.
        schedule (RatioSchedule): How much an epoch trains on.
        duration (str | int | None): Epochs, or what Composer takes for ``max_duration`` in epochs
            (``90ep``), batches or samples. Default: ``10``.
        batch_size (int): Samples per step over all ranks. Default: ``1``.
        cache_limit (str | int | None): Bytes that a node keeps, as ``StreamingDataset`` takes it;
            0: nothing. Default: everything.
        validate_hash (str | None): The hash by which shards are checked. Default: none.
        nodes (int): Default: ``1``.
        workers (int): Loader workers of each node. Default: ``1``.
        costs (Costs): Prices, latency and bandwidth.
        unseen_first (bool): Whether what was never selected comes before all else, as with every
            rule of ours but ``random``. Default: ``True``.
        notes (tuple[str, ...]): What else is to be known of this run. Default: nothing.
        seed (int): Draws what is simulated. Default: ``0``.

    Raises:
        ValueError: A number is out of its range; the message names it.
    """

    source: str
    split: str | None = None
    schedule: RatioSchedule = field(default_factory=RatioSchedule)
    duration: str | int | None = 10
    batch_size: int = 1
    cache_limit: str | int | None = None
    validate_hash: str | None = None
    nodes: int = 1
    workers: int = 1
    costs: Costs = field(default_factory=Costs)
    unseen_first: bool = True
    notes: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(1, nodes=self.nodes, workers=self.workers, batch_size=self.batch_size)
        self.bytes_kept()
        max_duration(self.duration)

    def bytes_kept(self) -> int | None:
        """Bytes that a node keeps; None: all."""
        return None if self.cache_limit is None else _bytes("cache_limit", self.cache_limit)


def run_of(
    data: str,
    overrides: Sequence[str] = (),
    *,
    split: str | None = None,
    ratio: float | None = None,
    epochs: int | None = None,
    warmup: int | None = None,
    anneal: float | None = None,
    **options: Any,
) -> PlannedRun:
    """The run that a command asks for; what is None is left to the recipe, or the default.

    Args:
        data (str): A folder or URL of shards, or a recipe (``.yaml``).
        overrides (Sequence[str]): Of the recipe, see :func:`load_recipe`.
        split (str | None): Folder within the data.
        ratio (float | None): See :class:`RatioSchedule`.
        epochs (int | None): How many.
        warmup (int | None): Full epochs at the start.
        anneal (float | None): Share of full epochs at the end.
        **options (Any): Other fields of :class:`PlannedRun`, or of :class:`Costs`.

    Raises:
        ValueError: Something is not accepted; the message names it.
    """
    if data.endswith((".yaml", ".yml")):
        run = planned_run(load_recipe(data, overrides))
    elif overrides:
        raise RecipeError(
            f"{overrides[0]!r} is for recipes, and {data!r} is none: its name does not end in .yaml"
        )
    else:
        run = PlannedRun(data)
    given = {name: value for name, value in options.items() if value is not None}
    if "bandwidth" in given:
        given["bandwidth"] = _bandwidth(given["bandwidth"])
    names = [each.name for each in fields(Costs)]
    costs = {name: given.pop(name) for name in names if name in given}
    schedule = {"ratio": ratio, "warmup_epochs": warmup, "anneal": anneal}
    return replace(
        run,
        split=run.split if split is None else split,
        schedule=replace(run.schedule, **{k: v for k, v in schedule.items() if v is not None}),
        duration=run.duration if epochs is None else epochs,
        costs=replace(run.costs, **costs),
        **given,
    )


def planned_run(recipe: Recipe) -> PlannedRun:
    """The run of a recipe.

    Args:
        recipe (Recipe): Checked as far as it is about this.

    Returns:
        PlannedRun: With its data, ratio, duration, seed and workers, on one node.

    Raises:
        RecipeError: It has something that cannot be told before, or that is not accepted.
    """
    agent = _agent(recipe)
    assert isinstance(agent.schedule, RatioSchedule), "a recipe has no functions"
    loader = recipe.train_loader
    _, dataset = split_name("train_loader.dataset", loader.dataset)
    if dataset.get("streams") is not None:
        raise RecipeError("train_loader.dataset.streams: plan looks at one stream at a time")
    source = dataset.get("remote") or dataset.get("local")
    if source is None:
        raise RecipeError("train_loader.dataset needs `local`, `remote`, or both")
    return PlannedRun(
        source=str(source),
        split=dataset.get("split"),
        schedule=replace(agent.schedule, ratio=agent.selector.ratio_of(agent.schedule.ratio)),
        duration=recipe.trainer.get("max_duration"),
        batch_size=loader.batch_size,
        cache_limit=dataset.get("cache_limit") or None,  # to streaming, 0 is no limit
        validate_hash=dataset.get("validate_hash"),
        workers=max(loader.num_workers, 1),
        costs=agent.costs,
        unseen_first=not agent.selector.is_blind,
        notes=_BETWEEN if agent.selector.egress_weight else (),
        seed=recipe.seed,
    )


def plan(run: PlannedRun, show_progress: bool = False) -> dict[str, Any]:
    """Tell what a run will download.

    Args:
        run (PlannedRun): The run.
        show_progress (bool): Show a bar where it takes long. Default: ``False``.

    Returns:
        dict[str, Any]: Plain values: the run, its data, the figures of each mode over all nodes
        (bytes of the first epoch, of a later one in the mean, and in total; requests; dollars;
        seconds), bytes by epoch and by ratio, and notes in sentences.

    Raises:
        OSError: The index is not there, or cannot be downloaded.
        ValueError: It is no index, or the run's cache is too small for it.
    """
    index = read_index(run.source, run.split, validate_hash=run.validate_hash)
    ratios = epoch_ratios(run, index.sizes.num_samples)
    limit = run.bytes_kept()
    _check_cache(limit, index)
    chosen = some_shards(index.sizes, run.seed)
    sizes = index.sizes.some(chosen)
    share = len(chosen) / len(index.sizes.samples)
    steps = len(ratios) + len(RATIOS)
    with tqdm(total=steps, desc="plan", disable=not show_progress, delay=1, leave=False) as bar:
        fetched = forecast(
            sizes,
            ratios,
            run.costs,
            cache_limit=None if limit is None else limit * share,
            nodes=run.nodes,
            seed=run.seed,
            unseen_first=run.unseen_first,
            tick=bar.update,
        )
        curves = by_ratio(sizes, RATIOS, run.costs, run.seed, tick=bar.update)
    total, part = int(index.sizes.stored.sum()), int(sizes.stored.sum())
    scale = np.array([total / part, 1 / share])
    by_epoch = {
        mode: (numbers * scale).round().astype(np.int64) for mode, numbers in fetched.items()
    }
    return {
        "index": index.where,
        "samples": index.sizes.num_samples,
        "shards": len(index.sizes.samples),
        "bytes": total,
        "bytes_not_ranged": sum(index.whole.values()),
        "ratio": run.schedule.ratio,
        "warmup_epochs": run.schedule.warmup_epochs,
        "anneal": run.schedule.anneal,
        "epochs": len(ratios),
        "cache_limit": limit,
        "nodes": run.nodes,
        "workers": run.workers,
        "costs": asdict(run.costs),
        "gap": run.costs.gap,
        "seed": run.seed,
        "simulated_shards": len(chosen),
        "modes": {mode: _figures(run, by_epoch[mode]) for mode in MODES},
        "bytes_by_epoch": {mode: by_epoch[mode][:, 0].tolist() for mode in MODES},
        "share_by_ratio": {
            "ratio": list(RATIOS),
            **curves,
        },
        "notes": _notes(run, index, ratios, limit, sizes, by_epoch),
    }


def epoch_ratios(run: PlannedRun, num_samples: int) -> list[float]:
    """The ratio of each epoch of a run; one that it ends inside of counts as a whole one.

    Raises:
        ValueError: It has too many epochs, or its duration is in none of the units known here.
    """
    duration = max_duration(run.duration)
    units: dict[TimeUnit, Callable[[float], float]] = {
        TimeUnit.EPOCH: lambda ratio: 1,
        TimeUnit.SAMPLE: lambda ratio: size_for(ratio, num_samples),
        TimeUnit.BATCH: lambda ratio: -(-size_for(ratio, num_samples) // run.batch_size),
    }
    if duration.unit not in units:
        raise RecipeError(
            f"max_duration={run.duration!r} does not tell how many epochs these are: give --epochs"
        )
    ratios: list[float] = []
    done = 0.0
    while done < duration.value:
        if len(ratios) == _MOST_EPOCHS:
            raise RecipeError(f"max_duration={run.duration!r} is more than {_MOST_EPOCHS} epochs")
        ratios.append(run.schedule(len(ratios), done / duration.value))
        done += units[duration.unit](ratios[-1])
    return ratios


def _agent(recipe: Recipe) -> DataAgent:
    for name, arguments in recipe.algorithms.items():
        if ALGORITHMS.canonical("algorithms", name) == "data_agent":
            agent = ALGORITHMS.build(f"algorithms.{name}", name, arguments)
            if agent.interval is not None or agent.look:
                raise RecipeError(
                    f"algorithms.{name}: plan knows epochs, not rounds and looks inside them: "
                    "leave interval and look out for it, as in ~algorithms.data_agent.interval"
                )
            return agent
    raise RecipeError(
        "The recipe has no data_agent, so that there is nothing to compare: add for example "
        "algorithms.data_agent.ratio=0.5"
    )


def _bytes(name: str, value: str | int) -> int:
    """A size as streaming reads it: ``100gb``, in powers of 1024."""
    try:
        size = bytes_to_int(value)
    except (ValueError, AttributeError):
        size = -1
    if size < 0:
        raise ValueError(f"{name}={value!r} is not accepted; give bytes, or for example 100gb")
    return size


def _bandwidth(value: str | float) -> float:
    try:
        return float(value)
    except ValueError:
        return _bytes("bandwidth", str(value))


def _check_cache(limit: int | None, index: IndexFile) -> None:
    """Refuse what StreamingDataset refuses; 0 is no limit of its, but said to this plan."""
    largest = int((index.sizes.raw + _zipped(index.sizes)).max())
    if limit and limit < 4 * largest:
        raise ValueError(
            f"cache_limit={limit} is too small: StreamingDataset wants room for four of the "
            f"largest shard, which are {4 * largest} bytes. 0 means that nothing is kept"
        )


def _zipped(sizes: ShardSizes) -> NDArray[np.int64]:
    """``[S]`` what a compressed shard takes beside its raw bytes while it is unpacked."""
    return np.where(sizes.stored != sizes.raw, sizes.stored, 0)


def _figures(run: PlannedRun, by_epoch: NDArray[np.int64]) -> dict[str, Any]:
    size, requests = by_epoch.sum(0).tolist()
    later = by_epoch[1:, 0]
    return {
        "first_epoch_bytes": int(by_epoch[0, 0]),
        "later_epoch_bytes": float(later.mean()) if len(later) else None,
        "bytes": size,
        "requests": requests,
        "dollars": run.costs.charged(requests, size),
        "seconds": run.costs.seconds(requests, size) / (run.nodes * run.workers),
    }


def _notes(
    run: PlannedRun,
    index: IndexFile,
    ratios: Sequence[float],
    limit: int | None,
    sizes: ShardSizes,
    by_epoch: Mapping[str, NDArray[np.int64]],
) -> list[str]:
    """What is assumed, and what to know of this data set."""
    full = sum(ratio == 1 for ratio in ratios)
    selections = (
        "random and new in each epoch, but what no epoch has served yet comes first: so select all "
        "rules but `random`. An agent comes back to its samples more often, which is good for a "
        "cache"
        if run.unseen_first
        else "random and new in each epoch"
    )
    costs = run.costs
    notes = [
        f"Selections are {selections}. {full} of {len(ratios)} epochs are full.",
        "All samples of a shard are taken to have one size, for the index tells no more.",
        f"Prices: ${costs.dollars_per_gb:g} per 10^9 bytes, "
        f"${costs.dollars_per_million_requests:g} per million requests.",
        *run.notes,
    ]
    if limit is None:
        notes.append("Everything that was fetched is kept: no cache limit.")
        if run.nodes > 1:
            notes.append(
                "A node that gets another part of the data in a later epoch fetches what it has "
                "not had itself."
            )
        elif ratios[0] == 1 and len(ratios) > 1:
            notes.append(
                "The first epoch is full and all of it is kept, so that later ones fetch nothing, "
                "however they select. Egress is saved where the cache is smaller than the data "
                "(cache_limit)."
            )
        elif run.unseen_first and sum(ratios) >= 1:
            notes.append(
                "Once every sample had its turn, everything is there, and later epochs fetch "
                "nothing. Egress is saved where the cache is smaller than the data (cache_limit), "
                "or the run shorter than one pass over them."
            )
    elif limit == 0:
        notes.append("Nothing is kept from one epoch to the next.")
    else:
        notes.append(
            f"Each node keeps {limit:,} bytes and gives up first what it used longest ago, by "
            "shards, which it uses one after the other in a random order; that several are in use "
            "at once is left out."
        )
        selected = sum(size_for(ratio, index.sizes.num_samples) for ratio in ratios)
        most = selected + len(ratios) * len(index.sizes.samples)
        if most > by_epoch["samples"][:, 1].sum():
            notes.append(
                "Where the cache is too small for an epoch's selection, a shard's samples come in "
                "several parts, as they are needed: that takes more requests than simulated, about "
                f"{most:,} if each comes alone."
            )
    if run.nodes > 1:
        notes.append(
            f"{run.nodes} nodes share the shards as py1e deals them, each with a cache of its own. "
            "A shard that is split between two counts for one of them."
        )
    if len(sizes.samples) < len(index.sizes.samples):
        notes.append(
            f"Simulated on {len(sizes.samples):,} of {len(index.sizes.samples):,} shards, drawn at "
            "random, and scaled."
        )
    total = max(int(index.sizes.stored.sum()), 1)
    for reason, size in index.whole.items():
        notes.append(
            f"{100 * size / total:.1f} % of the bytes are in shards that are {reason}: these are "
            "always fetched whole."
        )
    return notes
