# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is remembered of every sample: 27 bytes each, and 4 more where a score is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from composer_dataagent.selection.egress import Units
from composer_dataagent.selection.mislabel import label_trust, mislabel_flags

# name -> (dtype, value of a sample that was never seen)
LEDGER_COLUMNS: dict[str, tuple[type, float]] = {
    "loss": (np.float32, np.nan),
    "entropy": (np.float32, np.nan),
    "max_prob": (np.float32, np.nan),
    "agreement": (np.float16, 1.0),
    "label": (np.int32, -1),
    "predicted": (np.int32, -1),
    "last_seen": (np.int16, -1),
    # torch has no unsigned 16-bit arithmetic worth relying on; 32767 visits are enough
    "visits": (np.int16, 0),
}
# What a visit says of a sample.
KNOWN = ("loss", "entropy", "max_prob")
# One visit per epoch, counted from 0: neither the epoch nor the number of visits may wrap around.
MAX_EPOCH = np.iinfo(np.int16).max - 1


class Ledger:
    """Per-sample memory, one NumPy column per fact, indexed by sample id.

    Args:
        num_samples (int): Number of samples ``N`` of the data set.

    Attributes:
        loss (NDArray[np.float32]): ``[N]`` loss at the last visit, in nats; NaN if never seen.
        entropy (NDArray[np.float32]): ``[N]`` normalised predictive entropy at the last visit.
        max_prob (NDArray[np.float32]): ``[N]`` probability of the predicted class then.
        agreement (NDArray[np.float16]): ``[N]`` running agreement of model and label, from 1.
        label (NDArray[np.int32]): ``[N]`` class, -1 where unknown.
        predicted (NDArray[np.int32]): ``[N]`` class that the model predicted last, likewise.
        last_seen (NDArray[np.int16]): ``[N]`` epoch of the last visit, -1 if never seen; the round
            where epochs come in rounds.
        visits (NDArray[np.int16]): ``[N]`` in how many epochs the sample was seen.
        score (NDArray[np.float32] | None): ``[N]`` what ``data_agent`` ranks by; not saved.
        flagged (NDArray[np.bool_]): ``[N]`` probably mislabelled, as of :meth:`refresh_flags`.
        flag_share (float): Share of all samples that is flagged.
        label_trust (float): Share of the labels that the model predicted, as of
            :meth:`refresh_flags`; 1 where none is known.
        label_plausibility (float): How near the others came, likewise.
        units (Units | None): Which samples are read together, and what that costs; not saved.

    Raises:
        ValueError: ``num_samples`` is below 1.
    """

    loss: NDArray[np.float32]
    entropy: NDArray[np.float32]
    max_prob: NDArray[np.float32]
    agreement: NDArray[np.float16]
    label: NDArray[np.int32]
    predicted: NDArray[np.int32]
    last_seen: NDArray[np.int16]
    visits: NDArray[np.int16]

    def __init__(self, num_samples: int) -> None:
        if num_samples < 1:
            raise ValueError(f"num_samples={num_samples!r} is not accepted; it must be at least 1")
        self.num_samples = num_samples
        for name, (dtype, empty) in LEDGER_COLUMNS.items():
            setattr(self, name, np.full(num_samples, empty, dtype))
        self.score: NDArray[np.float32] | None = None
        self.set_flags(np.zeros(num_samples, bool))
        self.label_trust, self.label_plausibility = 1.0, 1.0
        self.units: Units | None = None

    def __len__(self) -> int:
        return self.num_samples

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Whether each sample was ever seen, ``[N]``."""
        return self.last_seen >= 0

    def coverage(self) -> float:
        """Share of all samples that was ever seen."""
        return float(self.seen.mean())

    def record(
        self,
        ids: NDArray[np.int64],
        epoch: int,
        loss: NDArray,
        entropy: NDArray,
        max_prob: NDArray | None = None,
        label: NDArray | None = None,
        agreement: NDArray | None = None,
        score: NDArray | None = None,
        predicted: NDArray | None = None,
    ) -> None:
        """Write what a visit showed; the first visit in an epoch wins.

        A loader that pads ranks to equal lengths serves a few samples twice.

        Args:
            ids (NDArray[np.int64]): ``[B]`` sample ids.
            epoch (int): The epoch that the visit belongs to, from 0 to 32766.
            loss (NDArray): ``[B]``. A value that is not finite is remembered as 0: it says nothing,
                and must neither attract a selector nor spoil its statistics.
            entropy (NDArray): ``[B]``, likewise.
            max_prob (NDArray | None): ``[B]``. Default: unchanged.
            label (NDArray | None): ``[B]``. Default: unchanged.
            agreement (NDArray | None): ``[B]``. Default: unchanged.
            score (NDArray | None): ``[B]``, kept while :attr:`score` is an array. Default:
                unchanged.
            predicted (NDArray | None): ``[B]``, unchanged where it is -1. Default: unchanged.

        Raises:
            ValueError: ``epoch`` is out of range.
        """
        if not 0 <= epoch <= MAX_EPOCH:
            raise ValueError(
                f"epoch={epoch} is not accepted; the ledger counts epochs from 0 to {MAX_EPOCH} in "
                "16 bits: train fewer, longer epochs"
            )
        _, first = np.unique(ids, return_index=True)
        if score is not None and self.score is not None:
            # Also of a visit that was recorded without one: fit() had ended inside the epoch.
            rows = ids[first]
            scored = first[(self.last_seen[rows] != epoch) | np.isnan(self.score[rows])]
            self.score[ids[scored]] = score[scored]
        first = first[self.last_seen[ids[first]] != epoch]
        rows = ids[first]
        columns = {
            "max_prob": max_prob,
            "label": label,
            "agreement": agreement,
            "predicted": predicted,
        }
        self._write(ids, first, {"loss": loss, "entropy": entropy, **columns})
        self.last_seen[rows] = epoch
        self.visits[rows] += 1

    def observe(
        self, ids: NDArray[np.int64], score: NDArray | None = None, **columns: NDArray
    ) -> None:
        """Write what samples showed that were not trained on.

        When they were trained on last stays as it is; but those that never were count as seen, at
        the latest of these times: there is no need to train on them only to know them.

        Args:
            ids (NDArray[np.int64]): ``[B]`` sample ids; of one that comes twice, the first counts.
            score (NDArray | None): ``[B]``; the scores of all others are forgotten.
            **columns (NDArray): ``[B]`` each, see :meth:`record`.
        """
        _, first = np.unique(ids, return_index=True)
        self._write(ids, first, columns)
        self.score = None
        if score is not None:
            self.score = np.full(len(self), np.nan, np.float32)
            self.score[ids[first]] = score[first]
        self.last_seen[self.last_seen < 0] = self.last_seen.max(initial=0)

    def _write(
        self,
        ids: NDArray[np.int64],
        chosen: NDArray[np.int64],
        columns: Mapping[str, NDArray | None],
    ) -> None:
        """Write columns ``[B]`` of the ``chosen`` among ``ids``, see :meth:`record`."""
        for name, values in columns.items():
            if values is None:
                continue
            rows = chosen
            if name in ("loss", "entropy"):
                values = np.where(np.isfinite(values), values, 0)
            elif name == "predicted":
                rows = chosen[values[chosen] >= 0]
            getattr(self, name)[ids[rows]] = values[rows]

    def rows(self, ids: NDArray[np.int64], rounds: int) -> Ledger:
        """A copy that knows some samples only, by their positions in ``ids``.

        What is said of all samples together stays as it is.

        Args:
            ids (NDArray[np.int64]): ``[K]`` which, sorted.
            rounds (int): In how many rounds an epoch comes, each of which :meth:`record` got as an
                epoch: the copy's ``last_seen`` counts whole epochs.
        """
        part = Ledger(len(ids))
        for name in LEDGER_COLUMNS:
            setattr(part, name, getattr(self, name)[ids])
        part.last_seen //= rounds
        part.score = None if self.score is None else self.score[ids]
        part.flagged, part.flag_share = self.flagged[ids], self.flag_share
        part.label_trust, part.label_plausibility = self.label_trust, self.label_plausibility
        part.units = None if self.units is None else self.units.among(ids)
        return part

    def digest(self) -> str:
        """A digest of all columns, to be compared between ranks."""
        digest = xxhash.xxh3_128()
        for name in LEDGER_COLUMNS:
            digest.update(getattr(self, name).data)
        return digest.hexdigest()

    def last_visits(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """What is known of some samples: ``[3, B]`` loss, entropy and max_prob.

        Of a sample that was never seen, what :meth:`record` writes for one that said nothing: it is
        settled (loss and entropy 0, max_prob 1).
        """
        known = np.stack([getattr(self, name)[ids] for name in KNOWN])
        return np.where(np.isnan(known), [[0], [0], [1]], known).astype(np.float32)

    def refresh_flags(self) -> None:
        """Recompute :attr:`flagged` and what is said of all labels together."""
        self.set_flags(mislabel_flags(self.agreement, self.label, self.seen))
        self.label_trust, self.label_plausibility = label_trust(
            self.loss, self.max_prob, self.label, self.seen
        )

    def set_flags(self, flagged: NDArray[np.bool_]) -> None:
        """Replace :attr:`flagged`, ``[N]``; every training step asks for its share."""
        self.flagged = flagged
        self.flag_share = float(flagged.mean())

    def class_log_share(self) -> NDArray[np.float32]:
        """Log of each class's share among the samples with a known label, ``[C]``.

        Classes without a sample get 0, the value for "unknown".
        """
        known = self.label[self.label >= 0]
        if not len(known):
            return np.zeros(0, np.float32)
        counts = np.bincount(known)
        share = np.where(counts > 0, counts / len(known), 1.0)
        return np.log(share).astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        """The columns as torch tensors (shared memory, not copies)."""
        return {name: torch.from_numpy(getattr(self, name)) for name in LEDGER_COLUMNS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            ValueError: It belongs to a data set of another size.
        """
        saved = len(state["loss"])
        if saved != self.num_samples:
            raise ValueError(
                f"The saved ledger knows {saved} samples, this one {self.num_samples}: resume with "
                "the same data set"
            )
        for name in LEDGER_COLUMNS:
            setattr(self, name, state[name].numpy().copy())
