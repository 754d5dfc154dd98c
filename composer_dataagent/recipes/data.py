# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Streaming datasets that a recipe can name, and the loaders over them."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from composer.utils import dist
from filelock import FileLock
from streaming import StreamingDataLoader
from torch.utils.data import DataLoader

from composer_dataagent import collectives
from composer_dataagent.recipes.config import LoaderConfig
from composer_dataagent.recipes.errors import RecipeError
from composer_dataagent.recipes.images import ImageClassification, ImageSegmentation
from composer_dataagent.recipes.registry import Registry, split_name
from composer_dataagent.recipes.text import TextClassification
from composer_dataagent.recipes.tokens import SequenceClassification, TokenSequences

DATASETS = Registry(
    "dataset",
    {
        "image_classification": ImageClassification,
        "image_segmentation": ImageSegmentation,
        "text_classification": TextClassification,
        "token_sequences": TokenSequences,
        "sequence_classification": SequenceClassification,
    },
    implied=("batch_size",),  # the loader's
)


def build_loader(key: str, config: LoaderConfig, *, train: bool, seed: int) -> DataLoader:
    """The loader that a recipe describes.

    Args:
        key (str): Where it stands in the recipe, for messages.
        config (LoaderConfig): Its section.
        train (bool): Whether samples are shuffled by default.
        seed (int): Default of the dataset's ``shuffle_seed``.

    Returns:
        DataLoader: A ``StreamingDataLoader`` with this rank's share of the global batch.

    Raises:
        RecipeError: A value is not accepted, or the data is not there.
    """
    ranks = dist.get_world_size()
    if config.batch_size % ranks:
        raise RecipeError(
            f"{key}.batch_size={config.batch_size} is over all ranks and must be a multiple of "
            f"their number, {ranks}"
        )
    for option in ("persistent_workers", "prefetch_factor"):
        if getattr(config, option) and not config.num_workers:
            raise RecipeError(
                f"{key}.{option}={getattr(config, option)} is about workers: leave it out, or give "
                f"{key}.num_workers"
            )
    batch_size = config.batch_size // ranks
    name, arguments = split_name(f"{key}.dataset", config.dataset)
    _check_there(f"{key}.dataset", arguments)
    with _one_job_at_a_time():
        dataset = DATASETS.build(
            f"{key}.dataset",
            name,
            arguments,
            shuffle=train,
            batch_size=batch_size,
            shuffle_seed=seed,
        )
    loader = StreamingDataLoader(
        dataset,
        batch_size=batch_size,
        **config.model_dump(exclude={"dataset", "batch_size"}),
    )
    if not len(loader):
        raise RecipeError(
            f"{key}.batch_size={config.batch_size} leaves no batch of {dataset.size} samples: give "
            "a smaller one, or drop_last=false"
        )
    return loader


@contextlib.contextmanager
def _one_job_at_a_time() -> Iterator[None]:
    """Streaming looks for a free name in shared memory and then takes it, as if it were alone.

    Of two jobs that start on a machine at once, one would end with ``FileExistsError``.
    """
    user = os.getuid() if hasattr(os, "getuid") else ""
    lock = FileLock(os.path.join(tempfile.gettempdir(), f"composer_dataagent_{user}.lock"))
    if dist.get_local_rank() == 0:
        lock.acquire()
    try:
        if dist.get_local_rank() == 0:
            _remove_unfinished_shared_memory()
        collectives.barrier()  # the other ranks of the node look for the name, too
        yield
        collectives.barrier()
    finally:
        lock.release()


def _remove_unfinished_shared_memory() -> None:
    """Take away what a process left that was killed while it made a streaming dataset.

    Streaming 0.13 (``base/shared/prefix.py``) makes shared memory, and gives it its size a moment
    later. A process that was killed in between left it empty, and every later dataset of the
    machine fails with ``cannot mmap an empty file``.
    """

    def empty() -> set[Path]:
        found = Path("/dev/shm").glob("[0-9][0-9][0-9][0-9][0-9][0-9]_*")
        return {path for path in found if path.exists() and path.stat().st_size == 0}

    if unfinished := empty():
        time.sleep(1.0)  # whoever lives is long done then
        for path in unfinished & empty():
            with contextlib.suppress(OSError):  # another user's
                path.unlink()


def _check_there(key: str, arguments: Mapping[str, Any]) -> None:
    """Say early, and in words, that local data is missing."""
    if arguments.get("remote") is not None or arguments.get("streams") is not None:
        return
    local = arguments.get("local")
    if local is None:
        raise RecipeError(f"{key} needs `local` (a folder of MDS shards), `remote`, or both")
    index = Path(str(local), str(arguments.get("split") or ""), "index.json")
    if not index.exists():
        raise RecipeError(
            f"{key}.local={local!r} holds no MDS shards ({index} is missing) and no `remote` is "
            "given. For the digits of the demo: `composer-dataagent prepare-digits`"
        )
