# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong when a selection is served; each ends the run instead of serving other data."""

from __future__ import annotations


class SelectionError(RuntimeError):
    """Base of the errors below."""


class SelectionMissingError(SelectionError):
    """An epoch is about to run for which no selection was published."""


class SelectionCorruptError(SelectionError):
    """A selection does not match its digest, its checkpoint or that of the node's first rank."""


class ShortEpochError(SelectionError):
    """An epoch ended before all of its planned samples were served."""


class ShardError(SelectionError):
    """A shard could not be downloaded, verified or decompressed."""


class RankEndedError(SelectionError):
    """Another process of this node, which this one waits for, has ended."""


class RankMissingError(SelectionError):
    """Another process of this node serves the same data without a selection."""


class NoRoomError(RuntimeError):
    """The cache has no room, and nothing in it may be put out for this."""


class NoRoomYetError(NoRoomError):
    """The cache will have room when others are done."""


def in_words(error: BaseException | None) -> str:
    """An error and, where its own text does not say so, what caused it."""
    if error is None or isinstance(error, SelectionError):
        return str(error)
    # boto3, of a download that was cut off several times: "Max Retries Exceeded", and no cause.
    cause = getattr(error, "last_exception", None)
    return repr(error) if cause is None else f"{error!r}, at last {cause!r}"
