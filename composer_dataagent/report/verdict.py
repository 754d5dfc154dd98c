# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a run's numbers mean, in sentences: is the agent well, and what does it say of the data?"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from composer_dataagent.report.run import Run
from composer_dataagent.report.settings import selector_of
from composer_dataagent.report.wording import count, number, percent

# What the agent can be rewarded for, by the name of its target.
WANTS = {
    "composite": "hard and uncertain samples",
    "entropy": "uncertain samples, whatever their labels",
    "agreeing": "uncertain samples, all the more those whose labels the model agrees with",
    "expected": "sequences that are no harder than the model expects",
}
# Of DataAgent's own settings, where a run does not tell them.
_MIN_FIT, _TRUST, _GATE_SHARE = 0.7, 0.75, 0.06
# A class that gets less than this share of what the others get is worth a word.
_NEGLECTED = 0.25
# Below this, a new selection is nearly the old one.
_FROZEN = 0.01
_SLOW = 0.2


@dataclass(frozen=True)
class Remark:
    """A sentence about a run.

    Attributes:
        kind (str): ``good``; ``note``, something to know; ``bad``, something to act on.
        text (str): The sentence.
    """

    kind: Literal["good", "note", "bad"]
    text: str


def judge_run(run: Run) -> list[Remark]:
    """What the last finished epoch (or round) says, in plain words.

    Args:
        run (Run): From :func:`~composer_dataagent.report.read_run`.

    Returns:
        list[Remark]: About the agent first, then the labels, the selection, the cost. Nothing is
        said of what the rows do not tell.
    """
    if not run.rows:
        return []
    last = run.rows[-1]
    remarks: list[Remark] = []
    if selector_of(run) == "data_agent":
        remarks += _of_agent(run, last)
    remarks += _of_labels(run, last)
    remarks += _of_selection(run, last)
    remarks += _of_cost(run)
    return remarks


def _of_agent(run: Run, last: Mapping[str, Any]) -> Iterator[Remark]:
    fit, least = number(last.get("fit")), _selector_setting(run, "min_fit", _MIN_FIT)
    if fit >= least:
        yield Remark(
            "good",
            f"The agent has learned what it is rewarded for (its actions and their aims "
            f"correlate by {fit:.2f}).",
        )
    elif fit < least:
        yield Remark(
            "bad",
            f"The agent has not learned what it is rewarded for (correlation {fit:.2f}, below "
            f"min_fit={least:g}), so samples were chosen without it, by a rule. It needs more "
            "updates: a smaller update_interval, or more epochs.",
        )
    wants = WANTS.get(str(last.get("target")))
    if wants is not None:
        yield Remark("note", f"It looks for {wants}.")
    broken = sum(n for row in run.rows if (n := number(row.get("nonfinite"))) > 0)
    if broken:
        yield Remark(
            "note",
            f"{count(broken)} visits had NaN or infinity (a half-precision overflow, say): they "
            "were left out, and what was known of the samples before still holds.",
        )


def _of_labels(run: Run, last: Mapping[str, Any]) -> Iterator[Remark]:
    trust, least = number(last.get("label_trust")), _selector_setting(run, "trust", _TRUST)
    flagged, samples = number(last.get("flagged")), number(run.meta.get("num_samples"))
    if trust < least:
        yield Remark(
            "note",
            f"The model predicts {percent(trust, 0)} of the labels only: many are wrong, the "
            "classes are hard to tell apart, or it has trained for too few steps. Large losses are "
            "then no reason to choose a sample.",
        )
    if flagged > 0 and samples > 0:
        share = flagged / samples
        held_back = share >= _GATE_SHARE and selector_of(run) == "data_agent"
        yield Remark(
            "note",
            f"{count(flagged)} samples ({percent(share)}) are probably mislabelled"
            + (", so many that they were held back." if held_back else ".")
            + f" All of them: composer-dataagent suspects {shlex.quote(str(run.path))}",
        )


def _of_selection(run: Run, last: Mapping[str, Any]) -> Iterator[Remark]:
    coverage = number(last.get("coverage"))
    if coverage < 1:
        yield Remark("note", f"{percent(1 - coverage)} of the samples were never seen.")
    pruned = [row for row in run.rows if number(row.get("ratio")) < 1]
    if len(pruned) > 1 and number(pruned[-1].get("churn")) < _FROZEN:
        yield Remark(
            "bad",
            f"The selection hardly changes any more ({percent(number(pruned[-1]['churn']))} of it "
            "is new): the run trains on the same samples again and again.",
        )
    if pruned:
        names = [run.class_name(label) for label in _neglected(pruned[-1])]
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
            yield Remark("note", f"Of some classes hardly anything is chosen: {shown}.")


def _neglected(row: Mapping[str, Any]) -> list[int]:
    """Classes of which far less is chosen than of all samples."""
    chosen, total = row.get("class_selected") or {}, row.get("class_total") or {}
    known = {label: number(amount) for label, amount in total.items() if number(amount) > 0}
    overall = sum(number(chosen.get(label, 0)) for label in known) / max(sum(known.values()), 1)
    shares = {label: number(chosen.get(label, 0)) / amount for label, amount in known.items()}
    return sorted(int(k) for k, v in shares.items() if v < _NEGLECTED * overall and k.isdecimal())


def _of_cost(run: Run) -> Iterator[Remark]:
    agent, seconds = (
        sum(n for row in run.rows if (n := number(row.get(name))) > 0)
        for name in ("agent_seconds", "seconds")
    )
    if seconds and agent / seconds > _SLOW:
        yield Remark(
            "note",
            f"{percent(agent / seconds, 0)} of the time went to choosing: the model's own steps "
            "take a few milliseconds here. Beside larger ones it is the same milliseconds.",
        )


def _selector_setting(run: Run, name: str, default: float) -> float:
    settings = run.meta.get("settings")
    selector = settings.get("selector") if isinstance(settings, dict) else None
    value = number(selector.get(name)) if isinstance(selector, dict) else float("nan")
    return default if value != value else value
