# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Serve a subset of any StreamingDataset, without an agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming import StreamingDataset

from composer_dataagent.streaming.attach import StreamingAttachment, attach
from composer_dataagent.streaming.attachment import Ids
from composer_dataagent.streaming.costs import Costs
from composer_dataagent.streaming.dataset import is_selective

Predicate = Callable[[NDArray[np.int64]], NDArray[np.bool_]]


def select(
    dataset: StreamingDataset,
    ids: Ids | NDArray[np.bool_] | Predicate | None = None,
    *,
    per_epoch: Callable[[int], Ids | NDArray[np.bool_]] | None = None,
    fetch: str | None = None,
    costs: Costs | Mapping[str, Any] | None = None,
) -> StreamingAttachment:
    """Serve only these samples, from the next epoch on, until told otherwise.

    Partition over ranks and workers, shuffle, ``len()``, resumption and eviction all follow. A
    checkpoint in the middle of an epoch remembers which samples were selected: select the same ones
    before resuming. A plain ``DataLoader`` keeps the length that ``len(loader)`` gave last, and
    torch warns of epochs longer than that: ask for it again after a change.

    Args:
        dataset (StreamingDataset): Any StreamingDataset. In a multi-process run, every rank selects
            the same samples.
        ids (Ids | NDArray[np.bool_] | Callable): Sample ids in any order, or a mask ``[N]``, or a
            function from all ids, int64 ``[N]``, to a mask.
        per_epoch (Callable[[int], Ids | NDArray[np.bool_]] | None): Instead of ``ids``:
            ``(epoch) -> ids or mask``, with epochs counted from 0 and over resumptions. It is
            called in all ranks and workers and must give the same in all. Composer asks for the
            length of an epoch once: give it epochs of one size, or use ``DataAgent``.
        fetch (str | None): ``"samples"`` fetches no more than these of each shard, see
            :func:`~composer_dataagent.streaming.attach`. Default: as before, at first
            ``"shards"``.
        costs (Costs | Mapping[str, Any] | None): See there.

    Returns:
        StreamingAttachment: The handle; it can be ignored.

    Raises:
        TypeError: Not a StreamingDataset (for map-style data, use ``torch.utils.data.Subset``),
            neither or both of ``ids`` and ``per_epoch``, or ids that are not integers.
        ValueError: No id, one twice, one outside the data set; see also
            :func:`~composer_dataagent.streaming.attach`.

    Example:
        >>> from streaming import StreamingDataset
        >>> from composer_dataagent import clear, select
        >>> dataset = StreamingDataset(local="data/numbers", batch_size=4)  # {"x": 0} to {"x": 19}
        >>> handle = select(dataset, [7, 3, 5])  # or a mask of all ids, such as quality > 0.5
        >>> [sample["x"] for sample in dataset]
        [3, 5, 7]
        >>> handle = select(dataset, lambda ids: ids % 5 == 0)
        >>> [sample["x"] for sample in dataset]
        [0, 5, 10, 15]
        >>> handle = select(dataset, per_epoch=lambda epoch: range(epoch))  # a curriculum
        >>> [sample["x"] for sample in dataset]  # the third epoch, counted from 0
        [0, 1]
    """
    if (ids is None) == (per_epoch is None):
        raise TypeError("select() takes what to serve: either ids or per_epoch")
    if per_epoch is not None and not callable(per_epoch):
        raise TypeError(f"per_epoch must be a function (epoch) -> ids, but is {per_epoch!r}")
    is_new = not is_selective(dataset)
    attachment = attach(dataset, fetch=fetch, costs=costs)
    assert isinstance(attachment, StreamingAttachment), "map-style data has no select()"
    try:
        if per_epoch is not None:
            attachment.serve_by_rule(per_epoch)
        elif callable(ids):
            attachment.serve_always(_apply(ids, attachment.num_samples))
        else:
            attachment.serve_always(ids)  # type: ignore[arg-type]  # it is given
    except BaseException:
        if is_new:  # it serves what it served before
            clear(dataset)
        raise
    return attachment


def _apply(predicate: Predicate, num_samples: int) -> NDArray[np.bool_]:
    mask = np.asarray(predicate(np.arange(num_samples)))
    if mask.dtype != bool or mask.shape != (num_samples,):
        raise TypeError(
            f"the function given to select() must make a boolean mask [{num_samples}] of the array "
            f"of all ids, but made an array of shape {mask.shape} and dtype {mask.dtype}; use "
            "np.vectorize for a function of one id, or per_epoch= for a function of the epoch"
        )
    return mask


def clear(dataset: StreamingDataset) -> None:
    """Serve all samples again, from the next epoch on.

    Args:
        dataset (StreamingDataset): One that :func:`select` was called with; others are left alone.

    Raises:
        TypeError: Not a StreamingDataset.

    Example:
        >>> clear(dataset)
        >>> len(dataset)
        20
    """
    if not isinstance(dataset, StreamingDataset):
        raise TypeError(
            f"clear() takes the dataset that select() was called with, not a "
            f"{type(dataset).__name__}"
        )
    if is_selective(dataset):
        StreamingAttachment(dataset).serve_always(np.ones(dataset.num_samples, bool))
