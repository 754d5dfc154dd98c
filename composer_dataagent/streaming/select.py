# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Serve a subset of any StreamingDataset, without an agent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from streaming import StreamingDataset

from composer_dataagent.streaming.attach import Attachment, Ids, attach
from composer_dataagent.streaming.dataset import is_selective


def select(dataset: StreamingDataset, ids: Ids | NDArray[np.bool_]) -> Attachment:
    """Serve only these samples, from the next epoch on, until told otherwise.

    Partition over ranks and workers, shuffle, ``len()``, resumption and eviction all follow. A
    checkpoint in the middle of an epoch remembers which samples were selected: select the same ones
    before resuming. A plain ``DataLoader`` keeps the length that ``len(loader)`` gave last, and
    torch warns of epochs longer than that: ask for it again after a change.

    Args:
        dataset (StreamingDataset): Any StreamingDataset. In a multi-process run, every rank selects
            the same samples.
        ids (Ids | NDArray[np.bool_]): Sample ids in any order, or a mask ``[N]``.

    Returns:
        Attachment: The handle; it can be ignored.

    Raises:
        TypeError: Not a StreamingDataset, or ids that are not integers.
        ValueError: No id, one twice, one outside the data set; see also
            :func:`~composer_dataagent.streaming.attach`.

    Example:
        .. code-block:: python

            dataset = StreamingDataset(remote="s3://bucket/data", batch_size=32, shuffle=True)
            select(dataset, np.flatnonzero(quality > 0.5))
            loader = StreamingDataLoader(dataset, batch_size=32, num_workers=8)
    """
    attachment = attach(dataset)
    attachment.serve_always(ids)
    return attachment


def clear(dataset: StreamingDataset) -> None:
    """Serve all samples again, from the next epoch on.

    Args:
        dataset (StreamingDataset): One that :func:`select` was called with; others are left alone.

    Raises:
        TypeError: Not a StreamingDataset.
    """
    if not isinstance(dataset, StreamingDataset):
        raise TypeError(
            f"clear() takes the dataset that select() was called with, not a "
            f"{type(dataset).__name__}"
        )
    if is_selective(dataset):
        Attachment(dataset).serve_always(np.ones(dataset.num_samples, bool))
