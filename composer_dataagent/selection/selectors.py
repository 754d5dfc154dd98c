# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which samples does the next epoch train on? One class a rule, behind one registry."""

from __future__ import annotations

import difflib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from composer_dataagent.checks import is_number
from composer_dataagent.selection import egress, guards
from composer_dataagent.selection.gumbel import gumbel_keys, top_k
from composer_dataagent.selection.ledger import Ledger
from composer_dataagent.selection.mislabel import MISLABEL_GATE_SHARE


@dataclass(frozen=True)
class Selection:
    """What an epoch trains on.

    Attributes:
        ids (NDArray[np.int64]): ``[K]`` sorted, unique sample ids.
        weights (NDArray[np.float32] | None): ``[K]`` factor on each sample's gradient; ``None``
            is 1 for all.

    Raises:
        TypeError: The ids are no array.
        ValueError: They are not sorted, unique integers, or the weights do not fit them.
    """

    ids: NDArray[np.int64]
    weights: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.ids, np.ndarray):
            raise TypeError(
                f"Selection needs ids as a NumPy array, got a {type(self.ids).__name__}: "
                "np.unique(ids) makes one"
            )
        # Weights are looked up by binary search: a rule that forgot to sort would give each
        # sample another one's weight, without an error.
        integers = self.ids.ndim == 1 and self.ids.dtype.kind in "iu"
        if not integers or (self.ids[1:] <= self.ids[:-1]).any():
            raise ValueError(
                "Selection needs ids [K] that are sorted, unique integers; np.unique(ids) makes "
                f"them so. Got shape {list(self.ids.shape)}, dtype {self.ids.dtype}"
            )
        if self.weights is not None and self.weights.shape != self.ids.shape:
            raise ValueError(
                f"Selection needs one weight for each of its {len(self.ids)} ids, got shape "
                f"{list(self.weights.shape)}"
            )


#: Some samples by their ids, or all of them.
Rows = NDArray[np.int64] | slice


class Selector(ABC):
    """A rule that picks the next epoch's samples from the ledger.

    A selector is deterministic: its only randomness is the generator that it is given.

    Attributes:
        name (str): As users write it in a recipe; set by :func:`register_selector`.
        summary (str): One line for ``composer-dataagent selectors``.
        uses_score (bool): Whether it ranks by ``ledger.score``, so that an agent is trained.
        is_blind (bool): Whether it looks at nothing that is known of samples.
        remembers (bool): Whether it keeps a record of samples by their ids, so that it must always
            be given the ledger of all.
        weighs_egress (bool): Whether it picks by :meth:`best` and :meth:`draw`, so that it can be
            given an ``egress_weight``.
        egress_weight (float): What it costs to read a shard, in ranks (from 0 to 1) per sample that
            it has: the higher, the fewer shards a selection touches, up to whole shards from about
            0.5 on. 0 is no matter where samples are. What gives way: samples that were never seen
            come first, but of more than are picked those of some shards; what guards put first
            (overdue samples, rare classes) has the highest ranks, but waits where its shard is not
            worth it; what they hold back comes with shards that are taken whole. Default: ``0.0``.
        gate (float): What the weighted rank of probably mislabelled samples loses while at least
            6 % of all samples are flagged, so that their odds fall to ``exp(-gate)``; the agent
            does not want large losses then. 0 is no gate.
        trust (float): The agent does not want what a wrong label brings about while the model
            predicts fewer than this share of the labels.
        patience (float): Share of training in which that is put down to the model's youth.
        min_fit (float): The agent has learned if its actions correlate at least as much with what
            they are rewarded for.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    uses_score: ClassVar[bool] = False
    is_blind: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    weighs_egress: ClassVar[bool] = False
    egress_weight: float = 0.0
    gate: float = 0.0
    trust: float = 0.0
    patience: float = 1.0
    min_fit: float = -1.0

    def gate_fires(self, ledger: Ledger) -> bool:
        """Whether flagged samples are held back."""
        return self.gate > 0 and ledger.flag_share >= MISLABEL_GATE_SHARE

    def ratio_of(self, ratio: float) -> float:
        """The share of the samples that it picks where ``ratio`` is wanted. Default: that."""
        return ratio

    def best(
        self,
        keys: NDArray,
        count: int,
        ledger: Ledger,
        rows: Rows = slice(None),
        taken: Sequence[NDArray[np.int64]] = (),
    ) -> NDArray[np.int64]:
        """Those of the largest keys; with an ``egress_weight``, less what it costs to read them.

        Args:
            keys (NDArray): ``[M]`` of all ``rows``, finite floats; may be changed.
            count (int): How many, from 1 to M.
            ledger (Ledger): What is known of the samples.
            rows (Rows): ``[M]`` sorted, the samples that can be picked. Default: all.
            taken (Sequence[NDArray[np.int64]]): Samples that are picked beside them anyway, each
                array sorted. Default: none.

        Returns:
            NDArray[np.int64]: ``[count]`` sorted positions in ``rows``.

        Raises:
            ValueError: What reading costs is not known.
        """
        if self.egress_weight == 0:
            return top_k(keys, count)
        units = ledger.units
        if units is None:
            raise ValueError(
                f"selector {self.name!r} has egress_weight={self.egress_weight}, but ledger.units, "
                "which says what shards samples are in, is not set: remove egress_weight"
            )
        if not isinstance(rows, slice):
            units = units.among(rows, *taken)
        return egress.choose(keys, count, units, self.egress_weight)

    def draw(
        self,
        rng: np.random.Generator,
        count: int,
        ledger: Ledger,
        rows: Rows = slice(None),
        taken: Sequence[NDArray[np.int64]] = (),
    ) -> NDArray[np.int64]:
        """As :meth:`best` of keys that are drawn uniformly; in any order."""
        size = len(ledger) if isinstance(rows, slice) else len(rows)
        if self.egress_weight == 0 or count == 0:
            return rng.choice(size, count, replace=False)
        return self.best(rng.random(size, np.float32), count, ledger, rows, taken)

    def unseen_first(
        self,
        ledger: Ledger,
        size: int,
        rng: np.random.Generator,
        pick: Callable[[NDArray[np.int64], int, NDArray[np.int64]], NDArray[np.int64]],
    ) -> NDArray[np.int64]:
        """Never seen samples before all others.

        Args:
            ledger (Ledger): What is known of the samples.
            size (int): How many.
            rng (np.random.Generator): Draws some, where there are more of them.
            pick (Callable): ``(seen ids, count >= 1, unseen ids)``, all sorted, gives those of the
                seen that are picked beside the unseen ones.

        Returns:
            NDArray[np.int64]: ``[size]`` sorted ids.
        """
        seen = np.flatnonzero(ledger.seen)
        unseen = np.flatnonzero(~ledger.seen)
        if len(unseen) >= size:
            return np.sort(unseen[self.draw(rng, size, ledger, unseen)])
        return np.sort(np.concatenate([unseen, pick(seen, size - len(unseen), unseen)]))

    @abstractmethod
    def select(self, ledger: Ledger, size: int, rng: np.random.Generator) -> Selection:
        """Pick exactly ``size`` samples.

        Called at the end of every epoch, also before a full one.

        Args:
            ledger (Ledger): What is known of the samples; equal on all ranks.
            size (int): How many to pick, between 1 and ``len(ledger)``.
            rng (np.random.Generator): Equal on all ranks.

        Returns:
            Selection: Sorted unique ids, and gradient weights if the rule has any.
        """

    def __repr__(self) -> str:
        # Public attributes are the arguments, as in the settings that a history keeps.
        arguments = (f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({', '.join(arguments)})"

    def state_dict(self) -> dict[str, Any]:
        """What the rule itself remembers: tensors and builtins only. Default: nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        del state


SELECTORS: dict[str, type[Selector]] = {}

SelectorType = TypeVar("SelectorType", bound=type[Selector])


def register_selector(name: str) -> Callable[[SelectorType], SelectorType]:
    """Class decorator that makes a :class:`Selector` known by name to recipes and commands.

    Args:
        name (str): How recipes call it.

    Raises:
        ValueError: The name is taken.
    """

    def register(cls: SelectorType) -> SelectorType:
        if name in SELECTORS:
            raise ValueError(f"selector name {name!r} is taken by {SELECTORS[name].__qualname__}")
        cls.name = name
        SELECTORS[name] = cls
        return cls

    return register


def selector_names() -> list[str]:
    """All registered names, sorted."""
    return sorted(SELECTORS)


def build_selector(spec: str | Mapping[str, Any] | Selector) -> Selector:
    """Make a selector from what a recipe says.

    Args:
        spec (str | Mapping[str, Any] | Selector): A name, ``{"name": name, **arguments}``, or a
            selector, which is returned as it is. Beside its own arguments, each rule of this
            package takes an ``egress_weight``, see :class:`Selector`.

    Returns:
        Selector: Ready to use.

    Raises:
        ValueError: Unknown name, unknown or missing argument (the message lists the accepted ones),
            or an ``egress_weight`` that is out of range, or of a rule that knows of none.
        TypeError: ``spec`` is none of these.

    Example:
        >>> import numpy as np
        >>> from composer_dataagent.selection import Ledger, build_selector
        >>> ledger = Ledger(4)
        >>> ledger.record(np.arange(4), 0, np.array([0.1, 2.0, 0.3, 1.0]), np.zeros(4))
        >>> selector = build_selector({"name": "loss", "explore": None})  # the largest, no noise
        >>> selector.select(ledger, 2, np.random.default_rng(0)).ids.tolist()
        [1, 3]
    """
    if isinstance(spec, Selector):
        return spec
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping) or "name" not in spec:
        raise TypeError(
            f"selector={spec!r} is not accepted; it must be a name, a mapping with a `name`, or a "
            "Selector"
        )
    arguments = dict(spec)
    name = arguments.pop("name")
    if name not in SELECTORS:
        close = difflib.get_close_matches(str(name), selector_names(), 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"selector={name!r} is not known; it must be one of {selector_names()}.{hint}"
        )
    cls = SELECTORS[name]
    weight = arguments.pop("egress_weight", 0.0)
    if not (is_number(weight) and 0 <= weight < np.inf):
        raise ValueError(
            f"egress_weight={weight!r} is not accepted; it must be a number >= 0 (0: no matter "
            "which shards samples are in)"
        )
    if weight > 0 and not cls.weighs_egress:
        raise ValueError(
            f"selector {name!r} knows of no egress_weight: remove it, or let select() pick by "
            "self.best() and self.draw(), and the class say `weighs_egress = True`"
        )
    signature = inspect.signature(cls)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        accepted = [*signature.parameters, *["egress_weight"] * cls.weighs_egress]
        raise ValueError(
            f"selector {name!r}: {error}; it accepts {accepted or 'no arguments'}"
        ) from error
    selector = cls(**arguments)
    if weight > 0:  # else settings are those of results that were made before it existed
        selector.egress_weight = float(weight)
    return selector


class _Ranked(Selector):
    """Gumbel top-k on a score that the ledger holds.

    Args:
        explore (float | None): Weight of the ranks against the noise, see
            :func:`~composer_dataagent.selection.gumbel_keys`. Default: ``4.0``.
    """

    weighs_egress = True

    def __init__(self, explore: float | None = 4.0) -> None:
        if explore is not None and not (is_number(explore) and 0 <= explore < np.inf):
            raise ValueError(
                f"explore={explore!r} is not accepted; it must be a number >= 0 (0: uniform), or "
                "null for greedy"
            )
        self.explore = explore

    @abstractmethod
    def score(self, ledger: Ledger, ids: Rows) -> NDArray:
        """Score of the given samples, higher is more wanted."""

    def pick(self, keys: NDArray, count: int, ledger: Ledger, ids: Rows) -> NDArray[np.int64]:
        """Sorted rows of ``ids`` that are picked. Default: those with the largest keys.

        Args:
            keys (NDArray): Of all ``ids``. May be changed: what guards put first, or hold back, is
                so for an ``egress_weight``, too.
            count (int): How many.
            ledger (Ledger): What is known of the samples.
            ids (Rows): The samples that can be picked.
        """
        del ledger, ids
        return top_k(keys, count)

    def select(self, ledger: Ledger, size: int, rng: np.random.Generator) -> Selection:
        """See :meth:`Selector.select`."""

        def picked(
            ids: Rows, count: int, taken: Sequence[NDArray[np.int64]] = ()
        ) -> NDArray[np.int64]:
            keys = gumbel_keys(self.score(ledger, ids), rng, self.explore)
            chosen = self.pick(keys, count, ledger, ids)
            if self.egress_weight == 0:
                return chosen
            del chosen  # as large as what comes in its place
            return self.best(keys, count, ledger, ids, taken)

        if ledger.seen.all():  # no copies of columns
            return Selection(picked(slice(None), size))
        return Selection(
            self.unseen_first(
                ledger, size, rng, lambda seen, count, unseen: seen[picked(seen, count, [unseen])]
            )
        )


@register_selector("data_agent")
class DataAgentSelector(_Ranked):
    """What the agent holds most worthwhile, with room for exploration, and guards.

    Args:
        explore (float | None): Weight of the ranks against the noise. Default: ``8.0``.
        gate (float): See :class:`Selector`; >= 0. Default: ``6.0``.
        trust (float): See :class:`Selector`; in [0, 1], 0 is always. Default: ``0.75``.
        patience (float): See :class:`Selector`; in [0, 1]. Default: ``0.3``.
        class_floor (float): Each class keeps this share of what it would have if all classes had
            equally many, and all its samples where it is smaller than that, while the model
            predicts at least a share of ``trust`` of all labels; in [0, 1], 0 is no floor for any
            class. Default: ``0.5``.
        max_age (float | None): No sample is left out for longer than this times what there would
            be between two visits if all were trained equally often (two epochs at a ratio of 0.5,
            so 20 epochs by default), but for one that the gate holds back, and as far as classes
            keep their floor. At least 2; ``None``: for however long. Default: ``10.0``.
        min_fit (float): See :class:`Selector`; in [-1, 1]. Below it, its target itself is ranked
            by, or the entropy in place of the composite. Default: ``0.7``.
    """

    summary = "The policy's mean action, explored by Gumbel top-k, with guards against wrong labels"
    uses_score = True

    def __init__(
        self,
        explore: float | None = 8.0,
        gate: float = 6.0,
        trust: float = 0.75,
        patience: float = 0.3,
        class_floor: float = 0.5,
        max_age: float | None = 10.0,
        min_fit: float = 0.7,
    ) -> None:
        super().__init__(explore)
        if not (is_number(gate) and 0 <= gate < np.inf):
            raise ValueError(
                f"gate={gate!r} is not accepted; it must be a number >= 0 (0: no gate)"
            )
        for name, value in {
            "trust": trust,
            "patience": patience,
            "class_floor": class_floor,
        }.items():
            if not (is_number(value) and 0 <= value <= 1):
                raise ValueError(f"{name}={value!r} is not accepted; it must be a share in [0, 1]")
        if max_age is not None and not (is_number(max_age) and 2 <= max_age < np.inf):
            raise ValueError(
                f"max_age={max_age!r} is not accepted; it must be a number >= 2, or null for no "
                "limit"
            )
        if not (is_number(min_fit) and -1 <= min_fit <= 1):
            raise ValueError(
                f"min_fit={min_fit!r} is not accepted; it must be a correlation in [-1, 1]"
            )
        self.gate = gate
        self.trust = trust
        self.patience = patience
        self.class_floor = class_floor
        self.max_age = max_age
        self.min_fit = min_fit

    def score(self, ledger: Ledger, ids: Rows) -> NDArray:
        """The agent's score."""
        if ledger.score is None:
            raise ValueError("selector 'data_agent' ranks by ledger.score, which is not set")
        return ledger.score[ids]

    def pick(self, keys: NDArray, count: int, ledger: Ledger, ids: Rows) -> NDArray[np.int64]:
        """The largest keys, samples of rare classes, and those that were not seen for long."""
        held_back = ledger.flagged[ids] if self.gate_fires(ledger) else None
        if held_back is not None:
            guards.hold_back(keys, held_back, self.gate)
        if self.max_age is not None:
            limit = ceil(self.max_age * len(keys) / count)
            due = guards.overdue(ledger.last_seen[ids], limit, held_back)
            if due.any():
                guards.promote(keys, due)
            del due  # a byte for each of, say, 100 million samples
        chosen = top_k(keys, count)
        # Where labels are in doubt, a rare class is mostly what strayed into it from others.
        if self.class_floor > 0 and ledger.label_trust >= self.trust:
            chosen = guards.fill_classes(chosen, keys, ledger.label[ids], self.class_floor)
        return chosen


@register_selector("random")
class RandomSelector(Selector):
    """Uniform, new in every epoch: the baseline that is hard to beat."""

    summary = "Uniformly at random, new in every epoch"
    is_blind = True
    weighs_egress = True

    def select(self, ledger: Ledger, size: int, rng: np.random.Generator) -> Selection:
        """See :meth:`Selector.select`."""
        return Selection(np.sort(self.draw(rng, size, ledger)))


@register_selector("full")
class FullSelector(Selector):
    """Everything, whatever the ratio: observe and report only."""

    summary = "All samples, whatever the ratio: observe and report only"
    is_blind = True
    weighs_egress = True  # which changes nothing

    def ratio_of(self, ratio: float) -> float:
        """1."""
        del ratio
        return 1.0

    def select(self, ledger: Ledger, size: int, rng: np.random.Generator) -> Selection:
        """All samples."""
        del size, rng
        return Selection(np.arange(len(ledger)))


@register_selector("loss")
class LossSelector(_Ranked):
    """Hard samples first."""

    summary = "Highest loss at the last visit first, explored by Gumbel top-k"

    def score(self, ledger: Ledger, ids: Rows) -> NDArray:
        """Loss at the last visit."""
        return ledger.loss[ids]


@register_selector("entropy")
class EntropySelector(_Ranked):
    """Uncertain samples first; looks at no label, so that wrong labels do not attract it."""

    summary = "Highest predictive entropy at the last visit first, explored by Gumbel top-k"

    def score(self, ledger: Ledger, ids: Rows) -> NDArray:
        """Entropy at the last visit."""
        return ledger.entropy[ids]


@register_selector("reward")
class RewardSelector(_Ranked):
    """The paper's composite of difficulty and uncertainty, ranked directly."""

    summary = "Highest composite of loss and entropy first (the paper's reward, without an agent)"

    def score(self, ledger: Ledger, ids: Rows) -> NDArray:
        """Composite over all samples at their last visits (paper, Eq. 1, 3, 5, 6)."""
        # Twin of agent.composite_reward, which works on a batch's tensors: wings may not import
        # one another. A test holds the two together.
        loss = np.minimum(ledger.loss[ids], np.quantile(ledger.loss[ids], 0.95))
        span = loss.max() - loss.min()
        difficulty = (loss - loss.min()) / span if span > 0 else np.zeros_like(loss)
        entropy = ledger.entropy[ids]
        weight = difficulty.var() / (difficulty.var() + entropy.var() + 1e-8)
        return weight * difficulty + (1 - weight) * entropy


@register_selector("infobatch")
class InfoBatchSelector(Selector):
    """InfoBatch (Qin et al., ICLR 2024): prune easy samples at random, rescale the ones kept.

    Samples with a loss below the mean are pruned uniformly and those kept weigh
    ``n_below / kept_below``, so that the expected gradient is that of the full data. InfoBatch
    itself fixes the pruning probability and lets the size follow; here the size is given, and the
    probability follows. Where it would pass ``max_prune``, the rest is pruned uniformly from the
    samples above the mean, which then weigh ``n_above / kept_above``. Where only one seen sample
    can be kept, it is drawn from all of them and weighs as much as they do.

    With an ``egress_weight``, it is drawn by shards which samples of a stratum are kept, and how
    many stays as it is. Samples above the mean are hardly pruned, so that it touches fewer shards
    only where these have few of them.

    Args:
        max_prune (float): Highest share of the samples below the mean that is pruned, in (0, 1).
            Default: ``0.75``: weights up to 4.
    """

    summary = "Prunes samples of below-mean loss uniformly and rescales the gradients of those kept"
    weighs_egress = True

    def __init__(self, max_prune: float = 0.75) -> None:
        if not (is_number(max_prune) and 0 < max_prune < 1):
            raise ValueError(f"max_prune={max_prune!r} is not accepted; it must be in (0, 1)")
        self.max_prune = max_prune

    def select(self, ledger: Ledger, size: int, rng: np.random.Generator) -> Selection:
        """See :meth:`Selector.select`."""
        weights = np.ones(len(ledger), np.float32)

        def pick(
            seen: NDArray[np.int64], count: int, unseen: NDArray[np.int64]
        ) -> NDArray[np.int64]:
            loss = ledger.loss[seen]
            # One sample cannot stand for two strata.
            is_below = (loss < loss.mean(dtype=np.float64)) & (count > 1)
            below, above = seen[is_below], seen[~is_below]
            prune = len(seen) - count
            from_below = min(prune, int(self.max_prune * len(below)))
            # At least one of a stratum must stay for its weight to exist.
            from_above = min(prune - from_below, len(above) - 1)
            from_below = prune - from_above
            kept: list[NDArray[np.int64]] = []
            for stratum, pruned in ((below, from_below), (above, from_above)):
                rest = len(stratum) - pruned
                chosen = stratum[self.draw(rng, rest, ledger, stratum, [unseen, *kept])]
                if pruned:
                    weights[chosen] = len(stratum) / len(chosen)
                kept.append(chosen)
            return np.concatenate(kept)

        ids = self.unseen_first(ledger, size, rng, pick)
        return Selection(ids, weights[ids] if (weights[ids] != 1).any() else None)


@register_selector("ucb")
class UCBSelector(Selector):
    """Dynamic data pruning with an upper confidence bound (Raju et al., arXiv 2111.12621).

    Ranks by a running mean of the loss plus ``c`` times its running deviation, so that samples
    whose loss moves are looked at again; the top ``size`` are taken.

    Args:
        decay (float): Weight of the past in the running moments, in [0, 1). Default: ``0.8``.
        c (float): Weight of the deviation, >= 0. Default: ``1.0``.
    """

    summary = "Running mean of the loss plus its running deviation, highest first (no randomness)"
    remembers = True
    weighs_egress = True

    def __init__(self, decay: float = 0.8, c: float = 1.0) -> None:
        if not (is_number(decay) and 0 <= decay < 1):
            raise ValueError(f"decay={decay!r} is not accepted; it must be in [0, 1)")
        if not (is_number(c) and 0 <= c < np.inf):
            raise ValueError(f"c={c!r} is not accepted; it must be a number >= 0")
        self.decay, self.c = decay, c
        self._mean: NDArray[np.float32] | None = None
        self._variance: NDArray[np.float32] | None = None
        self._updated = -1

    def select(self, ledger: Ledger, size: int, rng: np.random.Generator) -> Selection:
        """See :meth:`Selector.select`."""
        mean, variance = self._update(ledger)
        score = mean + self.c * np.sqrt(variance)

        def pick(
            seen: NDArray[np.int64], count: int, unseen: NDArray[np.int64]
        ) -> NDArray[np.int64]:
            return seen[self.best(score[seen], count, ledger, seen, [unseen])]

        return Selection(self.unseen_first(ledger, size, rng, pick))

    def _update(self, ledger: Ledger) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self._mean is None or self._variance is None:
            # A rule that joins a run later (another one's checkpoint) starts from the last losses.
            self._mean = ledger.loss.copy()
            self._variance = np.zeros(len(ledger), np.float32)
        else:
            rows = np.flatnonzero(ledger.last_seen > self._updated)
            loss, old = ledger.loss[rows], self._mean[rows]
            first = np.isnan(old)
            deviation = np.where(first, 0, loss - old).astype(np.float32)
            self._mean[rows] = np.where(first, loss, old + (1 - self.decay) * deviation)
            self._variance[rows] = self.decay * (
                self._variance[rows] + (1 - self.decay) * deviation**2
            )
        self._updated = int(ledger.last_seen.max())
        return self._mean, self._variance

    def state_dict(self) -> dict[str, Any]:
        """The running moments."""
        if self._mean is None or self._variance is None:
            return {}
        return {
            "mean": torch.from_numpy(self._mean),
            "variance": torch.from_numpy(self._variance),
            "updated": self._updated,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        if state:
            self._mean = state["mean"].numpy().copy()
            self._variance = state["variance"].numpy().copy()
            self._updated = state["updated"]
