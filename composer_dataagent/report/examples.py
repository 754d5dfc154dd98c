# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which samples of a run are worth a look."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

MISLABELLED = "Probably mislabelled samples"
HARDEST = "Hardest samples"
MOST_CHOSEN = "Most chosen samples"
LEAST_CHOSEN = "Least chosen samples"
CAPTIONS = {
    MISLABELLED: "While it trained, the model went on giving another class far more probability "
    "than the label. The most contradicted come first.",
    HARDEST: "Of the largest loss at their last visit, without those above.",
    MOST_CHOSEN: "In how many epochs the run trained on them.",
    LEAST_CHOSEN: "Likewise, from the other end.",
}


def choose_samples(ledger: Mapping[str, NDArray], count: int = 12) -> dict[str, list[int]]:
    """The samples that are worth a look.

    Args:
        ledger (Mapping[str, NDArray]): Columns ``[N]``, of which any may be absent. A list that
            needs one that is, is left out.
        count (int): How many of each, twice as many of those that are probably mislabelled.
            Default: ``12``.

    Returns:
        dict[str, list[int]]: Ids by what they are, first what comes first: probably mislabelled
        (the most contradicted), hardest (of the largest loss at the last visit, and not of those),
        and where not all were trained on equally often: most chosen, least chosen (``score``
        decides between equals where it is there, unknown is lowest; then the id), no id in both.
        Lists without a sample are left out.
    """
    lists = {
        # Worth more looks than others.
        MISLABELLED: suspects(ledger)[: 2 * count].tolist(),
        HARDEST: _hardest(ledger)[:count].tolist(),
    }
    visits = ledger.get("visits")
    if visits is not None and len(visits) and visits.min() < visits.max():
        lists[MOST_CHOSEN], lists[LEAST_CHOSEN] = _by_visits(visits, ledger.get("score"), count)
    return {name: ids for name, ids in lists.items() if ids}


def suspects(ledger: Mapping[str, NDArray]) -> NDArray[np.int64]:
    """Ids of the samples that are probably mislabelled, the most contradicted first.

    Args:
        ledger (Mapping[str, NDArray]): Columns ``[N]``: ``flagged``, ``loss`` and ``max_prob``.
            Where one is absent, so are suspects.

    Returns:
        NDArray[np.int64]: Those that are flagged, by how much more probable the predicted class was
        than the label at the last visit; then the id.
    """
    if not {"flagged", "loss", "max_prob"} <= set(ledger):
        return np.empty(0, np.int64)
    ids = np.flatnonzero(ledger["flagged"])
    # log(max p / p_y)
    prob = np.maximum(ledger["max_prob"][ids], np.finfo(np.float32).tiny)
    contradiction = ledger["loss"][ids] + np.log(prob)
    return ids[np.argsort(-contradiction, kind="stable")]


def _hardest(ledger: Mapping[str, NDArray]) -> NDArray[np.int64]:
    if "loss" not in ledger:
        return np.empty(0, np.int64)
    loss = np.where(ledger.get("flagged", False), np.nan, ledger["loss"])
    order = np.argsort(-loss, kind="stable")  # NaN comes last
    return order[loss[order] > 0]


def _by_visits(visits: NDArray, score: NDArray | None, count: int) -> tuple[list[int], list[int]]:
    visits = visits.astype(np.int64)
    ids = np.arange(len(visits))
    score = np.zeros(len(visits)) if score is None else score.astype(np.float64)
    score = np.where(np.isnan(score), -np.inf, score)
    count = min(count, len(visits) // 2)
    most = np.lexsort((ids, -score, -visits))[:count]
    least = np.setdiff1d(ids, most)
    least = least[np.lexsort((least, score[least], visits[least]))][:count]
    return most.tolist(), least.tolist()
