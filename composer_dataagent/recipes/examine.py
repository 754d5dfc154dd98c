# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a recipe finds its data, and room for what it writes, on this machine."""

from __future__ import annotations

from pathlib import Path

from streaming.base.util import bytes_to_int

from composer_dataagent.doctor import Finding, check_local, check_remote
from composer_dataagent.recipes.config import LOADERS, load_recipe
from composer_dataagent.recipes.registry import split_name


def examine(path: Path) -> list[Finding]:
    """Look at the data and the folders of a recipe.

    Args:
        path (Path): The YAML file.

    Returns:
        list[Finding]: Of each.

    Raises:
        RecipeError: It is no recipe.
    """
    recipe = load_recipe(path)
    found = [check_local(Path(recipe.run_dir))]
    for key in LOADERS:
        config = getattr(recipe, key)
        if config is None:
            continue
        _, dataset = split_name(f"{key}.dataset", config.dataset)
        remote, local, split = (dataset.get(name) for name in ("remote", "local", "split"))
        if dataset.get("streams") is not None:
            found.append(Finding("note", f"{key}: its streams were not looked at"))
        elif remote is None:
            found.append(check_remote(str(local), split)[0])
        else:
            finding, size = check_remote(str(remote), split)
            found.append(finding)
            limit = dataset.get("cache_limit")
            needed = bytes_to_int(limit) if limit else size
            if local is not None:
                found.append(check_local(Path(str(local)), needed))
    return found
