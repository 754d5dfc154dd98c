# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Samples read outside of any epoch, in the batches that the user's loader would make of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Subset

from composer_dataagent.streaming.loader import PlaceCollate


def read_batches(
    dataset: Dataset,
    ids: NDArray[np.int64],
    loader: DataLoader,
    batch_size: int,
    **more: Any,
) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """Read samples by their ids. The epoch that runs, and the next one, are as they would be.

    Args:
        dataset (Dataset): With ``__getitem__``.
        ids (NDArray[np.int64]): ``[M]``.
        loader (DataLoader): The user's, attached, whose ``collate_fn`` makes the batches.
        batch_size (int): Samples in a batch.
        **more (Any): Arguments of the DataLoader that reads.

    Yields:
        tuple[NDArray[np.int64], Any]: The ids of a batch ``[B]``, and the batch.
    """
    attached: Any = loader.collate_fn
    batches = DataLoader(
        Subset(dataset, array("q", ids.tobytes())),  # Python's integers, of 8 bytes each
        batch_size=batch_size,
        collate_fn=PlaceCollate(attached.collate),
        generator=torch.Generator(),  # the global one is the training's
        **more,
    )
    starts = range(0, len(ids), batch_size)
    for at, (batch, places) in zip(starts, batches, strict=True):
        of_batch = ids[at : at + batch_size]
        yield of_batch if places is None else of_batch[places], batch
