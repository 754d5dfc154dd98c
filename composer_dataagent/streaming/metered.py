# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Streams that count what they fetch."""

from __future__ import annotations

import functools
import os
from typing import Any

from streaming import Stream

from composer_dataagent.streaming.costs import REQUESTS_OF_SHARD
from composer_dataagent.streaming.ranged import RangedMDSReader
from composer_dataagent.streaming.repairs import named_after
from composer_dataagent.streaming.tally import Tally


def meter(dataset: Any) -> None:
    """Have what a dataset fetches counted, in place.

    Args:
        dataset (Any): A StreamingDataset with a ``tally``.
    """
    for stream in dataset.streams:
        stream.tally = dataset.tally
        stream.__class__ = metered(type(stream))


@functools.cache
def metered(cls: type[Stream]) -> type[Any]:
    """The subclass of a stream class that counts what it fetches, and leaves ranges to shards.

    Args:
        cls (type[Stream]): Any.

    Returns:
        type[Any]: One class per ``cls``; an object's ``__class__`` may be set to it. It then needs
        a ``tally``.
    """

    class Metered(cls):  # type: ignore[valid-type, misc]
        tally: Tally
        _is_metered = True

        def prepare_shard(self, shard: Any) -> int:
            whole = functools.partial(super().prepare_shard, shard)
            return shard.prepare(whole) if isinstance(shard, RangedMDSReader) else whole()

        def _download_file(self, from_basename: str, to_basename: str | None = None) -> str:
            local = super()._download_file(from_basename, to_basename)
            self.tally.count(REQUESTS_OF_SHARD, os.path.getsize(local))
            return local

        def __reduce__(self) -> Any:  # spawned workers cannot import this class by name
            return _metered_stream, (cls, vars(self))

    return named_after(cls, Metered)


def _metered_stream(cls: type[Stream], state: dict[str, Any]) -> Stream:
    stream = object.__new__(metered(cls))
    vars(stream).update(state)
    return stream


def overridden(cls: type[Stream]) -> set[str]:
    """Names of what a user's stream class does in its own way."""
    bases = cls.__mro__[: cls.__mro__.index(Stream)]
    return set().union(*(vars(base) for base in bases if "_is_metered" not in vars(base)))
