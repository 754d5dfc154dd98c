# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Named settings of ``DataAgent``; every part is an argument of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from composer_dataagent.agent import PPOConfig


@dataclass(frozen=True)
class Preset:
    """What ``DataAgent`` uses for an argument that is not given.

    Attributes:
        state (str): What the policy sees of a sample: ``signals``, ``features`` or ``both``.
        reward (str): ``budget`` (regression to the batch's rank of the target) or ``paper`` (action
            times composite).
        score (str): What the selector ranks by: the policy's ``mean`` action, or the last action
            that it happened to ``sample``.
        selector (dict): Name and arguments of the selector.
        warmup_epochs (int): Full epochs at the start.
        anneal (float): Share of training at the end with full epochs.
        rescale (bool): Multiply the gradients of a pruned epoch by ``1 / ratio``.
        update_interval (int): Batches between two PPO updates, about.
        hidden (tuple[int, ...]): Widths of the hidden layers of actor and critic.
        ppo (PPOConfig): The update's hyperparameters.
    """

    state: str = "signals"
    reward: str = "budget"
    score: str = "mean"
    selector: dict[str, Any] = field(default_factory=lambda: {"name": "data_agent"})
    warmup_epochs: int = 1
    anneal: float = 0.0
    rescale: bool = False
    update_interval: int = 10
    hidden: tuple[int, ...] = (32, 32)
    ppo: PPOConfig = field(default_factory=PPOConfig)


# Of the selector: follow the agent, whatever it wants and however little it has learned.
UNGUARDED: dict[str, Any] = {
    "gate": 0.0,
    "trust": 0.0,
    "class_floor": 0.0,
    "max_age": None,
    "min_fit": -1.0,
}

#: By the names that ``preset`` takes.
PRESETS: dict[str, Preset] = {
    "default": Preset(),
    # arXiv 2603.07433 as published, with the shapes right.
    "paper": Preset(
        state="features",
        reward="paper",
        score="sample",
        selector={"name": "data_agent", "explore": None, **UNGUARDED},
        anneal=0.125,
        rescale=True,
        hidden=(128, 128),
        ppo=PPOConfig(passes=4, learning_rate=3e-4, max_grad_norm=None),
    ),
}
