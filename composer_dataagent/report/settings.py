# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a run was set to, apart from its seed: runs that are equal in it may be averaged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from composer_dataagent.report.run import Run

# Keys of a recipe that decide what is shown, saved, or how fast it goes, but not what is learnt.
# Of the callbacks, some load weights or end the training.
_WITHOUT_EFFECT = re.compile(
    r"run_name|run_dir|loggers.*"
    r"|callbacks(?!\.load_?checkpoint|\.\w*stopper).*"
    r"|(train|eval)_loader\.(num_workers|persistent_workers|pin_memory|prefetch_factor)"
    r"|trainer\.(save_|progress_bar|load_progress_bar|log_to_console|console_|log_traces"
    r"|auto_log_hparams|python_log_level|dist_timeout|autoresume).*"
    r"|algorithms\.data_?agent(\.(run_dir|class_names|overwrite|fetch|costs(\..*)?))?",
    re.IGNORECASE,
)
# Sections that go without saying.
_SECTION = re.compile(r"^(trainer|algorithms(\.data_?agent)?)\.", re.IGNORECASE)
# Entries of `meta` that are settings; there may be more in its `settings`.
_META = ("ratio", "preset", "state", "num_samples", "num_epochs")
# Entries that are there where they are not the default. They change nothing of what is learnt, but
# means over runs that fetch in other ways, or at other prices, would be nobody's.
_OF_FETCHING = ("fetch", "costs")


def leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything inside; what is empty counts as a value."""
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def selector_of(run: Run) -> str:
    """The name of the rule that selected a run's samples."""
    return str(run.meta.get("selector"))


def settings_of(run: Run) -> dict[str, str]:
    """What decided what a run learnt, but for selector and seeds.

    The run's recipe, if it was made from one, and what its ``meta`` tells.

    Args:
        run (Run): Any run.

    Returns:
        dict[str, str]: Dotted key to value, in a form that is short enough to be shown.
    """
    meta = run.meta
    settings = {
        _SECTION.sub("", key): _on(key, value)
        for key, value in leaves(run.recipe)
        if not _WITHOUT_EFFECT.fullmatch(key)
    }
    settings |= {name: meta.get(name) for name in _META}
    settings |= leaves({name: meta[name] for name in _OF_FETCHING if name in meta})
    given = meta.get("settings")
    settings |= leaves(given if isinstance(given, Mapping) else {})
    if settings["num_epochs"] is not None:
        settings.pop("max_duration", None)  # the recipe's word for it
    # {name: sgd, lr: 1} becomes `optimizer sgd`, `optimizer.lr 1`.
    texts = {key.removesuffix(".name"): _text(value) for key, value in settings.items()}
    if texts.get("selector") in ("null", selector_of(run)):
        del texts["selector"]
    return {key: text for key, text in texts.items() if not _is_seed(key)}


def seeds_of(run: Run) -> frozenset[tuple[str, str]]:
    """Every seed that a run was given: those of its recipe and the agent's."""
    given = leaves({"meta": run.meta, "recipe": run.recipe})
    return frozenset((key, _text(value)) for key, value in given if _is_seed(key))


def _is_seed(key: str) -> bool:
    return key.endswith("seed")  # also shuffle_seed


def _on(key: str, value: Any) -> Any:
    """An algorithm or callback without arguments is there all the same."""
    named = key.startswith(("algorithms.", "callbacks.")) and key.count(".") == 1
    return value if value or not named else "on"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
