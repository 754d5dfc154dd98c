# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent makes of samples: the middle of the paper's Figure 1."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from composer_dataagent import collectives
from composer_dataagent.agent import (
    REWARDS,
    SIGNAL_STATE_DIM,
    Action,
    Learner,
    Target,
    choose_target,
    composite_reward,
    fit,
    rank01,
    ranked_by,
    sample_keys,
    signal_state,
    without_losses,
    worth,
)
from composer_dataagent.collectives import GatheredRows, Ranks
from composer_dataagent.presets import Preset
from composer_dataagent.report.facts import EpochFacts
from composer_dataagent.report.verdict import WANTS
from composer_dataagent.selection import Ledger, Selector, quick_rank01, update_agreement
from composer_dataagent.visits import Visits

log = logging.getLogger(__name__)

STATES = ("signals", "features", "both")
# As the log says it.
# Samples scored at once at the epoch's end: bounds memory, not results.
SCORE_CHUNK = 1 << 16


class Judge:
    """Acts on what batches showed of their samples, is rewarded, and says what samples are worth.

    All ranks hold the same one. Nothing that a sample is judged by depends on which rank has it:
    its noise follows from its id, its reward from the batch of all ranks together, and PPO sums
    over all ranks' samples.

    Args:
        ledger (Ledger): What is known of all samples; only read, but for its score.
        selector (Selector): The rule that picks samples. One that uses no score has no agent.
        settings (Preset): What the agent sees, how it is rewarded and how it learns.
        seed (int): Seeds weights and exploration.
        ranks (Ranks): Sums and compares over ranks.
        device (torch.device): The model's, where the agent lives, too.
        feature_dim (int): Width ``F`` of the features that visits come with, 0 for none.

    Attributes:
        learner (Learner | None): The agent, if the selector uses one.
        target (Target): What it is rewarded for.
        fit (float): Correlation of its last mean actions with what they were compared with.
    """

    def __init__(
        self,
        ledger: Ledger,
        selector: Selector,
        settings: Preset,
        seed: int,
        ranks: Ranks,
        device: torch.device,
        feature_dim: int,
    ) -> None:
        self._ledger = ledger
        self._selector = selector
        self._settings = settings
        self._seed = seed
        self._ranks = ranks
        self._device = device
        self._feature_dim = feature_dim
        self._class_log_share = torch.zeros(0, device=device)
        self._sequences = False  # until the first batch tells
        self.target: Target = choose_target(0, 1, False, 0, selector.trust, selector.patience)
        self.fit = 0.0
        self.learner: Learner | None = None
        if selector.uses_score:
            self.learner = self._make_learner()
            if self.scores_at_visit:
                ledger.score = np.full(len(ledger), np.nan, np.float32)

    def _make_learner(self) -> Learner:
        state_dim = {
            "signals": SIGNAL_STATE_DIM,
            "features": self._feature_dim,
            "both": SIGNAL_STATE_DIM + self._feature_dim,
        }[self._settings.state]
        return Learner(
            state_dim,
            REWARDS[self._settings.reward],
            self._settings.ppo,
            self._settings.hidden,
            self._seed,
            self._device,
            self._ranks.all_reduce_sum if collectives.world_size() > 1 else None,
        )

    @property
    def scores_at_visit(self) -> bool:
        """Features are gone after the step, so their scores are taken then; signals are kept."""
        return self._settings.state != "signals" or self._settings.score == "sample"

    @property
    def is_unsure(self) -> bool:
        """Whether there is an agent that has not learned yet what it is rewarded for."""
        return self.learner is not None and self.fit < self._selector.min_fit

    # ------------------------------------------------------------------ visits

    def sound(self, visits: Visits) -> Visits:
        """The visits, those that were not finite with what was known of their samples before."""
        known = torch.from_numpy(self._ledger.last_visits(visits.ids.numpy())).to(self._device)
        return visits.or_else(*known)

    def agreement(self, visits: Visits) -> Tensor:
        """Running agreement of model and label after the visits, float32 ``[M]``."""
        before = visits.before.to(self._device, non_blocking=True)
        target_prob = (-visits.loss).exp().clamp(0.0, 1.0)
        after = update_agreement(before, target_prob, visits.max_prob)
        # Without a label, there is nothing to agree with.
        return torch.where(visits.nonfinite | (visits.label < 0), before, after)

    def act(self, visits: Visits, agreement: Tensor) -> tuple[Tensor, Action] | None:
        """The states ``[M, D]`` of visits and what the agent does about them, if there is one."""
        if self.learner is None:
            return None
        state = self._state_of(visits, agreement)
        keys = sample_keys(self._seed, visits.step, visits.ids).to(self._device)
        return state, self.learner.act(state, keys)

    def score_of(self, action: Action) -> Tensor:
        """What samples are ranked by, float32 ``[M]``."""
        return action.action if self._settings.score == "sample" else action.mean

    def score_to_keep(self, visits: Visits, action: Action) -> Tensor | None:
        """The scores that the ledger keeps, where it does.

        The last visit's where this one was not finite and there is one.
        """
        if not self.scores_at_visit:
            return None
        assert self._ledger.score is not None
        last = torch.from_numpy(self._ledger.score[visits.ids.numpy()]).to(self._device)
        return torch.where(visits.nonfinite & last.isfinite(), last, self.score_of(action))

    # ------------------------------------------------------------------ rewards

    def aims(self, columns: Mapping[str, NDArray], facts: EpochFacts) -> NDArray[np.float32]:
        """What each sample's action is compared with, within its batch of all ranks.

        Args:
            columns (Mapping[str, NDArray]): Of all ranks' visits, ``[G]`` each, in order of steps.
            facts (EpochFacts): Is told of the composite reward, see ``composite_reward``.

        Returns:
            NDArray[np.float32]: ``[G]``.
        """
        aims = np.empty(len(columns["step"]), np.float32)
        _, first = np.unique(columns["step"], return_index=True)
        for batch in np.split(np.arange(len(aims)), first[1:]):
            # In double precision: its means must not depend on the order that ranks come in.
            loss, entropy = (
                torch.from_numpy(columns[name][batch]).double() for name in ("loss", "entropy")
            )
            composite = composite_reward(loss, entropy)
            facts.add(
                difficulty=composite.difficulty,
                uncertainty=composite.uncertainty,
                reward_weight=composite.weight,
            )
            agreement = torch.from_numpy(columns["agreement"][batch]).double()
            signals = (columns[name][batch] for name in ("loss", "entropy", "max_prob"))
            ranks = rank01(torch.from_numpy(ranked_by(self.target, *signals)).double())
            wanted = worth(self.target, composite.reward, ranks, agreement)
            aims[batch] = REWARDS[self._settings.reward].aim(wanted.float()).numpy()
        return aims

    def learn(
        self,
        state: Tensor,
        action: Action,
        rows: GatheredRows,
        aims: NDArray[np.float32],
        facts: EpochFacts,
    ) -> None:
        """One PPO update: reward this rank's actions, learn from those of all ranks.

        Args:
            state (Tensor): ``[M, D]`` and
            action (Action): ``[M]`` what :meth:`act` gave.
            rows (GatheredRows): All ranks' visits, this rank's in the order of ``state``.
            aims (NDArray[np.float32]): ``[G]`` what :meth:`aims` gave for them.
            facts (EpochFacts): Is told of it.
        """
        assert self.learner is not None
        # The state of a visit that was not finite is none of its own: nothing is learned from it.
        finite = ~rows.columns["nonfinite"]
        self.fit = fit(rows.columns["mean_action"][finite], aims[finite])
        if not finite.any():
            return
        mine = rows.rank == collectives.rank()
        kept = torch.from_numpy(np.flatnonzero(finite[mine])).to(self._device)
        action = Action(*(column[kept] for column in action))
        own_aims = torch.from_numpy(aims[mine & finite]).to(self._device)
        stats, reward = self.learner.learn(state[kept], action, own_aims)
        facts.add(reward=reward, updates=torch.ones(()))
        facts.add_actions(action.action)
        facts.add(**{f"ppo_{name}": value for name, value in vars(stats).items()})
        self._ranks.check_same("agent after the update", self.learner.digest)

    # ------------------------------------------------------------------ what it wants

    def notice_sequences(self, progress: float) -> None:
        """Samples are sequences of tokens, which have no label: the first batch told.

        Args:
            progress (float): Share of training done, in [0, 1], as everywhere here.
        """
        if not self._sequences:
            self._sequences = True
            self.target = self._suitable_target(progress)

    def choose_target(self, progress: float, when: str) -> None:
        """Choose what the agent is to want in the coming round, by what the ledger knows now.

        Args:
            progress (float): Share of training done.
            when (str): The round that ended, as the log says it.
        """
        before, self.target = self.target, self._suitable_target(progress)
        if self.target != before and self.learner is not None:
            # It would be slow to unlearn what it is sure of by now.
            self.learner = self._make_learner()
            log.info(
                "%s: the model predicts %.0f %% of the labels; now the agent wants %s",
                when.capitalize(),
                100 * self._ledger.label_trust,
                WANTS[self.target],
            )

    def _suitable_target(self, progress: float) -> Target:
        return choose_target(
            self._ledger.label_trust,
            self._ledger.label_plausibility,
            self._selector.gate_fires(self._ledger),
            progress,
            self._selector.trust,
            self._selector.patience,
            self._sequences,
        )

    # ------------------------------------------------------------------ scores

    def score_all(self, ledger: Ledger, progress: float) -> NDArray[np.float32]:
        """The policy's mean action for every sample, from the signals of its last visit.

        Args:
            ledger (Ledger): Of N samples.
            progress (float): Share of training done.

        Returns:
            NDArray[np.float32]: ``[N]`` in (0, 1); NaN of those that were never seen.
        """
        assert self.learner is not None
        scores = np.full(len(ledger), np.nan, np.float32)
        seen = np.flatnonzero(ledger.seen)
        for start in range(0, len(seen), SCORE_CHUNK):
            ids = seen[start : start + SCORE_CHUNK]
            rows = {
                name: torch.from_numpy(getattr(ledger, name)[ids]).to(self._device)
                for name in ("loss", "entropy", "max_prob", "agreement", "label")
            }
            rows |= {"label": rows["label"].long(), "agreement": rows["agreement"].float()}
            sample_state = self._signal_state(**rows, progress=progress)
            scores[ids] = self.learner.score(sample_state).cpu().numpy()
        return scores

    def score_without_agent(self, ledger: Ledger, when: str) -> NDArray[np.float32]:
        """What samples are worth, for an agent that does not know it yet.

        Args:
            ledger (Ledger): Of N samples.
            when (str): The coming round, as the log says it.

        Returns:
            NDArray[np.float32]: ``[N]``.
        """
        target = without_losses(self.target)
        log.info(
            "%s: the agent has not learned yet what it is rewarded for (correlation "
            "%.2f, below min_fit=%g), so this selection does without: %s",
            when.capitalize(),
            self.fit,
            self._selector.min_fit,
            WANTS[target],
        )
        ranks = quick_rank01(ranked_by(target, ledger.loss, ledger.entropy, ledger.max_prob))
        return worth(target, ranks, ranks, ledger.agreement).astype(np.float32)

    # ------------------------------------------------------------------ what it sees

    def refresh_classes(self) -> None:
        """See classes as the ledger knows them now."""
        self._class_log_share = torch.from_numpy(self._ledger.class_log_share()).to(self._device)

    def _state_of(self, visits: Visits, agreement: Tensor) -> Tensor:
        if self._settings.state == "features":
            return visits.features
        signals = self._signal_state(
            visits.loss,
            visits.entropy,
            visits.max_prob,
            agreement,
            visits.label,
            visits.progress.to(self._device),
        )
        return torch.cat([signals, visits.features], 1)

    def _signal_state(
        self,
        loss: Tensor,
        entropy: Tensor,
        max_prob: Tensor,
        agreement: Tensor,
        label: Tensor,
        progress: float | Tensor,
    ) -> Tensor:
        log_share = self._log_share(label)
        if self.target == "entropy":
            # As if each label was what the model predicts. An agent that is to rank by entropy
            # would else take a large loss for a sign of it, which a wrong label has, too.
            loss = -max_prob.clamp_min(torch.finfo(max_prob.dtype).tiny).log()
            agreement, log_share = torch.ones_like(agreement), torch.zeros_like(log_share)
        return signal_state(loss, entropy, max_prob, agreement, log_share, progress)

    def _log_share(self, label: Tensor) -> Tensor:
        """Log of the share of each label's class, 0 where it is not known yet."""
        table = torch.cat([self._class_log_share, self._class_log_share.new_zeros(1)])
        unknown = (label < 0) | (label >= len(self._class_log_share))
        return table[torch.where(unknown, len(self._class_log_share), label)]

    # ------------------------------------------------------------------ checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Tensors and builtins only."""
        score = self._ledger.score if self.scores_at_visit else None
        return {
            "target": self.target,
            "fit": self.fit,
            "score": None if score is None else torch.from_numpy(score),
            "class_log_share": self._class_log_share,
            "learner": None if self.learner is None else self.learner.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            ValueError: The saved agent has another shape.
        """
        self.target, self.fit = state["target"], state["fit"]
        # An epoch may end, and a target be chosen, before a batch tells again.
        self._sequences = self.target == "expected"
        if state["score"] is not None:
            self._ledger.score = state["score"].numpy().copy()
        self._class_log_share = state["class_log_share"].to(self._device)
        if self.learner is not None and state["learner"] is not None:
            self.learner.load_state_dict(state["learner"])
