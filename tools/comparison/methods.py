# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is compared, each at the same budget of trained samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import Any

from composer_dataagent.presets import PRESETS, UNGUARDED
from composer_dataagent.selection.schedule import RatioSchedule, size_for


@dataclass(frozen=True)
class Method:
    """A way to spend a budget.

    Attributes:
        agent (dict[str, Any]): Arguments of ``DataAgent``.
        spends (str): ``budget``; or ``all`` of the data, in all epochs; or ``short``: all of the
            data, in as few steps as the budget has.
    """

    agent: dict[str, Any] = field(default_factory=dict)
    spends: str = "budget"


# Rules that know nothing of what the agent learns: what it is to beat.
RULES = ("random", "short", "infobatch", "loss", "entropy", "reward", "ucb")
METHODS = {
    "full": Method({"selector": "full"}, spends="all"),
    "short": Method({"selector": "full"}, spends="short"),
    **{name: Method({"selector": name}) for name in RULES if name != "short"},
    # The best rule on its own, weighing ranks as the agent does: is it more than that?
    "entropy_8": Method({"selector": {"name": "entropy", "explore": 8.0}}),
    "paper": Method({"preset": "paper"}),
    "data_agent": Method(),
    # What the guards give.
    "data_agent_unguarded": Method({"selector": {"name": "data_agent", **UNGUARDED}}),
}

# What is compared unless it is said; and what fewer shards cost in accuracy, on data that have
# dozens of them.
USUAL = tuple(METHODS)
EGRESS = {
    f"{name}_egress_{weight:g}": Method({"selector": {"name": name, "egress_weight": weight}})
    for name in ("random", "entropy", "data_agent")
    for weight in (0.2, 0.3, 0.5)
}
METHODS |= EGRESS


def budget_of(num_samples: int, epochs: int, ratio: float) -> int:
    """Samples that a run of the default schedule trains on: one full epoch, then ``ratio``."""
    return num_samples + (epochs - 1) * size_for(ratio, num_samples)


def settings_of(
    method: Method, num_samples: int, epochs: int, batch_size: int, ratio: float
) -> dict[str, Any]:
    """How a method spends the budget.

    Args:
        method (Method): Which.
        num_samples (int): Of the data.
        epochs (int): Of a full run.
        batch_size (int): Samples per step.
        ratio (float): What pruned epochs of the default schedule keep.

    Returns:
        dict[str, Any]: ``agent`` (arguments of ``DataAgent``), ``max_duration``, and ``samples``
        that it is expected to train on.

    Raises:
        ValueError: The method's own full epochs take more than the budget.
    """
    budget = budget_of(num_samples, epochs, ratio)
    if method.spends == "all":
        return {
            "agent": method.agent,
            "max_duration": f"{epochs}ep",
            "samples": epochs * num_samples,
        }
    if method.spends == "short":
        per_epoch = ceil(num_samples / batch_size)
        whole, rest = divmod(budget, num_samples)
        steps = whole * per_epoch + round(rest / batch_size)
        return {"agent": method.agent, "max_duration": f"{steps}ba", "samples": budget}
    preset = PRESETS[method.agent.get("preset", "default")]
    schedule = RatioSchedule(0.5, preset.warmup_epochs, preset.anneal)
    full = sum(schedule(epoch, epoch / epochs) == 1 for epoch in range(epochs))
    own = (budget - full * num_samples) / ((epochs - full) * num_samples)
    if own <= 0:
        raise ValueError(
            f"ratio={ratio} of {epochs} epochs is a budget of {budget / num_samples:.2f} epochs, "
            f"of which this method spends {full} on all of the data: give a larger ratio"
        )
    return {
        "agent": {**method.agent, "ratio": round(own, 6)},
        "max_duration": f"{epochs}ep",
        "samples": budget,
    }
