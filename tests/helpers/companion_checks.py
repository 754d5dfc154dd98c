# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a run beside another algorithm scored its samples with what the account says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from companion_runs import HALF, LABELS, NUM_SAMPLES, Account, Outcome, signals_of
from composer.algorithms.cutmix import cutmix
from composer.algorithms.mixup import mixup
from torch import Tensor


def check_ids(outcome: Outcome, dropped: tuple[int, int] = (0, 0)) -> None:
    """Each epoch served what was called for, once, and the ledger says just that."""
    account, ledger = outcome.account, outcome.agent.ledger
    first, second = account.served(0), account.served(1)
    assert len(set(first)) == len(first) == NUM_SAMPLES - dropped[0]
    assert len(set(second)) == len(second) == HALF - dropped[1]
    assert set(second) <= account.called_for[0]
    assert set(np.flatnonzero(ledger.last_seen == 1)) == set(second)
    visits = np.bincount(first + second, minlength=NUM_SAMPLES)
    assert (ledger.visits == visits).all()


def check_ledger(outcome: Outcome, expected: dict[int, dict[str, float]]) -> None:
    """The ledger has these signals of each sample's last visit, and its own label."""
    ids = np.array(sorted(expected))
    for name in ("loss", "entropy", "max_prob"):
        wanted = [expected[i][name] for i in ids]
        got = getattr(outcome.agent.ledger, name)[ids]
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5, err_msg=name)
    assert (outcome.agent.ledger.label[ids] == LABELS[ids].numpy()).all()


def by_id(ids: Tensor, signals: dict[str, Tensor]) -> dict[int, dict[str, float]]:
    columns = {name: column.tolist() for name, column in signals.items()}
    return {i: {name: columns[name][at] for name in columns} for at, i in enumerate(ids.tolist())}


def expected_of(account: Account) -> dict[int, dict[str, float]]:
    """Of the last visit of each sample, from the logits that its own row had."""
    expected: dict[int, dict[str, float]] = {}
    for batch in account.batches:
        expected |= by_id(batch.ids, signals_of(torch.cat(batch.logits), LABELS[batch.ids]))
    return expected


def check_same(a: Outcome, b: Outcome) -> None:
    """Two runs that served and scored the same, to the last bit."""
    for epoch in (0, 1):
        assert a.account.served(epoch) == b.account.served(epoch)
    ledgers = (outcome.agent.ledger.state_dict() for outcome in (a, b))
    torch.testing.assert_close(*ledgers, rtol=0, atol=0, equal_nan=True)


# ---------------------------------------------------------------------- mixed rows


@dataclass(frozen=True)
class Mixed:
    """What Composer's function took and gave: partners, and the share of a row's own sample."""

    partner: Tensor
    own: float


@contextmanager
def watched_mixing() -> Iterator[list[Mixed]]:
    """How each microbatch was mixed, as the functions of Composer that do it see it."""
    seen: list[Mixed] = []

    def watched(function: Any, own: Callable[[float], float]) -> Any:
        def watch(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            seen.append(Mixed(kwargs["indices"], own(float(result[2]))))
            return result

        return watch

    with (
        patch.object(mixup, "mixup_batch", watched(mixup.mixup_batch, lambda mixing: 1 - mixing)),
        patch.object(cutmix, "cutmix_batch", watched(cutmix.cutmix_batch, lambda own: own)),
    ):
        yield seen


def shares_of(logits: Tensor, targets: Tensor, mix: Mixed) -> dict[str, Tensor]:
    """A sample's own share, one sample after the other."""
    rows = len(logits)
    mixed_into = {int(mix.partner[row]): row for row in range(rows)}
    shares: dict[str, list[Tensor]] = {"loss": [], "entropy": [], "max_prob": []}
    for j in range(rows):
        own = signals_of(logits[[j]], targets[[j]])
        other = signals_of(logits[[mixed_into[j]]], targets[[j]])
        for name, values in shares.items():
            values.append(mix.own * own[name] + (1 - mix.own) * other[name])
    return {name: torch.cat(values) for name, values in shares.items()}


def check_mixed_batches(
    outcome: Outcome, mixed: Sequence[Mixed], targets: Tensor = LABELS
) -> list[dict[int, dict[str, float]]]:
    """Shares add up to the training loss, and features are dealt to samples as shares are.

    Returns:
        The own shares of the samples of each batch.
    """
    mixes = iter(mixed)
    shares_of_batches = []
    for batch, (_, features) in zip(outcome.account.batches, outcome.read, strict=True):
        own_features, own_shares = [], {}
        for at, (ids, logits, loss) in enumerate(batch.microbatches()):
            mix = next(mixes)
            shares = shares_of(logits, targets[ids], mix)
            assert abs(float(shares["loss"].mean()) - loss) < 1e-4 * loss
            own_shares |= by_id(ids, shares)
            entered = batch.features[at]
            inverse = mix.partner.argsort()
            own_features.append(mix.own * entered + (1 - mix.own) * entered[inverse])
        torch.testing.assert_close(features, torch.cat(own_features))
        shares_of_batches.append(own_shares)
    assert next(mixes, None) is None
    return shares_of_batches
