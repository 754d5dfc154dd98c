# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a run was: from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from composer_dataagent.report.run import FINISHED, META, RECIPE, Run, read_run
from composer_dataagent.report.secrets import hidden
from composer_dataagent.report.summary import main_metric, summarise
from composer_dataagent.report.wording import better

_CHECKPOINTS = "checkpoints"


def is_run(folder: Path) -> bool:
    """Whether a folder is one that ``composer-dataagent train``, or a DataAgent, wrote."""
    return (folder / META).is_file() or (folder / RECIPE).is_file()


def describe_run(folder: Path) -> dict[str, Any]:
    """Facts about a run, also while it goes on.

    Args:
        folder (Path): One for which :func:`is_run` holds.

    Returns:
        dict[str, Any]: As JSON has them.

    Raises:
        ValueError: A file of the run is damaged; the message names it.
    """
    run = _read(folder)
    (row,) = summarise([run])
    last = run.rows[-1] if run.rows else {}
    recipe = hidden(run.recipe)
    metric = main_metric([run])
    values = [found[metric] for each in run.rows if metric in (found := each.get("metrics") or {})]
    best = {"higher": max, "lower": min}.get(better(metric) or "")
    return {
        "kind": "run",
        "where": str(folder),
        "run_name": run.meta.get("run_name") or recipe.get("run_name"),
        "finished": (folder / FINISHED).is_file(),
        "model": _name(recipe.get("model")),
        "train_data": _data(recipe.get("train_loader")),
        "eval_data": _data(recipe.get("eval_loader")),
        "optimizer": _name(recipe.get("optimizer")),
        "algorithms": [*(recipe.get("algorithms") or {})],
        "seed": recipe.get("seed", run.meta.get("seed")),
        "max_duration": (recipe.get("trainer") or {}).get("max_duration"),
        "selector": run.meta.get("selector"),
        "ratio": run.meta.get("ratio"),
        "num_samples": run.meta.get("num_samples"),
        "rows_are": f"{run.step}s",
        "rows": len(run.rows),
        "epochs": last.get("epochs"),
        "of_epochs": run.meta.get("num_epochs"),
        "batches": last.get("batches"),
        "samples_trained": row["samples"],
        "share_of_full_cost": row["share_of_full"],
        "metric": metric,
        "final": row["accuracy"],
        "best": best([value for value in values if value is not None]) if best and values else None,
        "seconds": row["seconds"],
        "agent_overhead": row["overhead"],
        "fetched_bytes": row["fetched"],
        "fetched_dollars": row["dollars"],
        "checkpoints": _checkpoints(folder, recipe),
        "version": run.meta.get("version"),
    }


def _read(folder: Path) -> Run:
    if (folder / META).is_file():
        return read_run(folder)
    # Of a recipe without data_agent, or killed before its first epoch: there is no history.
    try:
        return Run(folder, {}, [], recipe=json.loads((folder / RECIPE).read_text()))
    except ValueError as error:
        raise ValueError(f"{folder / RECIPE}: damaged, {error}") from error


def _name(component: Any) -> str | None:
    return component.get("name") if isinstance(component, Mapping) else component


def _data(loader: Any) -> str | None:
    """Where a loader reads from."""
    dataset = loader.get("dataset") if isinstance(loader, Mapping) else None
    if not isinstance(dataset, Mapping):
        return None
    place = dataset.get("remote") or dataset.get("local")
    split = dataset.get("split")
    return f"{dataset.get('name')} {place}" + (f" (split {split})" if split else "")


def _checkpoints(folder: Path, recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Files that a run can go on from, as Composer names them by default."""
    place = (recipe.get("trainer") or {}).get("save_folder") or folder / _CHECKPOINTS
    if "://" in str(place):
        return []
    files = sorted(Path(place).glob("*.pt"), key=lambda file: file.stat().st_mtime_ns)
    return [
        {"file": str(file), "bytes": file.stat().st_size} for file in files if not file.is_symlink()
    ]
