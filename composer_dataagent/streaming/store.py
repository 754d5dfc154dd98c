# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Selections on disk: how they reach data loader workers, whenever those were started."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer_dataagent.streaming.errors import SelectionCorruptError, SelectionMissingError
from composer_dataagent.streaming.shard_index import ids_of

STANDING = "standing"
Rule = Callable[[int], NDArray[np.bool_]]
# How many bits are set in each byte.
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)


@dataclass(frozen=True)
class SelectionRecord:
    """What identifies a published selection.

    Attributes:
        epoch (int | None): The streaming epoch that it is for; ``None``: every epoch that has none
            of its own.
        num_samples (int): Size of the data set.
        size (int): How many samples are selected.
        digest (str): SHA-256 of the packed bitmap, hexadecimal.
    """

    epoch: int | None
    num_samples: int
    size: int
    digest: str


class SelectionStore:
    """A folder of packed bitmaps, one file per streaming epoch plus a standing one.

    A file is one line of JSON (the :class:`SelectionRecord`) and ``ceil(N / 8)`` bytes. It is
    written beside its place and moved there, so a reader sees all of it or nothing; it is read
    through a memory map and verified. Workers that live through many epochs read anew in each.

    There can be a rule instead, which makes an epoch's selection when it is asked for, in whichever
    process that is. All copies of a store know by a file whether their rule is still in force.

    Args:
        folder (str): Existing folder that nothing else writes to.
        num_samples (int): Size of the data set, ``N``.
    """

    def __init__(self, folder: str, num_samples: int) -> None:
        self.folder = folder
        self.num_samples = num_samples
        self._rule: tuple[str, Rule] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> SelectionStore:
        return self  # as copies of a StreamingDataset share their epochs

    def publish(self, mask: NDArray[np.bool_], epoch: int | None) -> SelectionRecord:
        """Make a selection known.

        Args:
            mask (NDArray[np.bool_]): ``[N]``, true where selected.
            epoch (int | None): The streaming epoch that it is for; ``None``: all others.

        Returns:
            SelectionRecord: With the digest that readers verify.
        """
        return self.publish_bits(np.packbits(mask), epoch)

    def publish_bits(self, bits: NDArray[np.uint8], epoch: int | None) -> SelectionRecord:
        """As :meth:`publish`, of a mask that is packed already: ``[ceil(N / 8)]``."""
        return self._write(bits, int(_ONES[bits].sum(dtype=np.int64)), epoch)

    def follow(self, rule: Rule) -> None:
        """Have the selections of all epochs that have none of their own made by a rule.

        Args:
            rule (Rule): ``(epoch) -> mask [N]``; it must give the same whoever asks.
        """
        # The new one first: another process may ask at any moment.
        before = self._marks()
        self._rule = (uuid.uuid4().hex, rule)
        self._mark(self._rule[0]).touch()
        self._remove([*before, self._path(None)])

    def publish_standing(self, mask: NDArray[np.bool_]) -> SelectionRecord:
        """Publish the selection of all epochs without one of their own, in place of a rule."""
        record = self.publish(mask, None)
        self._rule = None
        self._remove(self._marks())
        return record

    def _marks(self) -> list[Path]:
        return list(Path(self.folder).glob(self._mark("*").name))

    def _remove(self, paths: list[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)

    def has_rule(self) -> bool:
        """Whether a rule is in force, and known in this process."""
        return self._rule is not None and self._mark(self._rule[0]).exists()

    def keep(self, epoch: int) -> None:
        """Let an epoch keep the selection it has, whatever becomes the standing one later."""
        if self._path(epoch).exists():
            return
        if self.has_standing() or self.has_rule():
            bits, record = self.open(epoch)
            self._write(bits, record.size, epoch)
        else:  # nothing was ever selected: it runs, or ran, with everything
            self.publish(np.ones(self.num_samples, bool), epoch)

    def read(self, epoch: int) -> tuple[NDArray, SelectionRecord]:
        """The sample ids that an epoch serves, sorted.

        Args:
            epoch (int): The streaming epoch that is about to run.

        Returns:
            tuple[NDArray, SelectionRecord]: Ids (int32 where they fit) and what identifies them.

        Raises:
            SelectionMissingError: Nothing was published for it.
            SelectionCorruptError: The file is damaged, or belongs to another epoch or data set.
        """
        bits, record = self.open(epoch)
        ids = ids_of(bits, self.num_samples)
        if len(ids) != record.size:
            raise SelectionCorruptError(
                f"The selection file of epoch {epoch} holds {len(ids)} samples but says "
                f"{record.size}: it was changed after it was written"
            )
        return ids, record

    def open(self, epoch: int) -> tuple[NDArray[np.uint8], SelectionRecord]:
        """The verified bitmap that an epoch serves, still packed. See :meth:`read`."""
        path = self._find(epoch)
        try:
            with path.open("rb") as file:
                record = SelectionRecord(**json.loads(file.readline()))
                start = file.tell()
                bits = np.memmap(file, np.uint8, mode="r", offset=start)
            intact = _digest(bits) == record.digest
        except FileNotFoundError as error:
            raise SelectionMissingError(
                f"The selection of streaming epoch {epoch} was removed while it was being read"
            ) from error
        except (ValueError, TypeError) as error:
            raise SelectionCorruptError(f"The selection file {path} is damaged: {error}") from error
        if not intact or len(bits) != -(-self.num_samples // 8):
            raise SelectionCorruptError(
                f"The selection file {path} does not match its digest: it was changed or cut off "
                "after it was written"
            )
        if record.num_samples != self.num_samples or record.epoch not in (None, epoch):
            raise SelectionCorruptError(
                f"The selection file {path} is for epoch {record.epoch} of {record.num_samples} "
                f"samples, but epoch {epoch} of {self.num_samples} samples is about to run"
            )
        return bits, record

    def size_of(self, epoch: int) -> int | None:
        """How many samples an epoch serves, if that is published."""
        try:
            return self.open(epoch)[1].size
        except SelectionMissingError:
            return None

    def has_standing(self) -> bool:
        """Whether epochs without a selection of their own are served from a standing one."""
        return self._path(None).exists()

    def keep_only(self, epochs: range) -> None:
        """Delete the selections of streaming epochs outside ``epochs``."""
        for path in Path(self.folder).glob("epoch-*.selection"):
            if int(path.stem.removeprefix("epoch-")) not in epochs:
                path.unlink(missing_ok=True)

    def _write(self, bits: NDArray[np.uint8], size: int, epoch: int | None) -> SelectionRecord:
        digest = _digest(bits)
        record = SelectionRecord(epoch, self.num_samples, size, digest)
        path = self._path(epoch)
        beside = path.with_suffix(f".{os.getpid()}.part")
        with beside.open("wb") as file:
            file.write(json.dumps(asdict(record)).encode() + b"\n")
            file.write(bits.data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        return record

    def _find(self, epoch: int) -> Path:
        if self._rule is not None and self.has_rule() and not self._path(epoch).exists():
            self.publish(self._rule[1](epoch), epoch)
            self.keep_only(range(epoch - 1, sys.maxsize))
        for path in (self._path(epoch), self._path(None)):
            if path.exists():
                return path
        raise SelectionMissingError(
            f"No selection was published for streaming epoch {epoch} (looked in {self.folder}): "
            "after attach(), call select() or serve() before iterating. If that was done, "
            "something else iterated over the training dataset and so moved its epoch on, or "
            "persistent workers were started before select(per_epoch=...), or the folder was "
            "deleted; all samples would be a wrong guess."
        )

    def _mark(self, rule: str) -> Path:
        return Path(self.folder, f"rule-{rule}")

    def _path(self, epoch: int | None) -> Path:
        name = STANDING if epoch is None else f"epoch-{epoch:09d}"
        return Path(self.folder, f"{name}.selection")


def _digest(bits: NDArray[np.uint8]) -> str:
    return hashlib.sha256(bits.data).hexdigest()
