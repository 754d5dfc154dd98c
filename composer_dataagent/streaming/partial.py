# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A file that holds some samples of a shard, and knows which.

It is the shard with holes: each sample is where it is in the whole one. What is held is written
behind the shard's last byte, in the same file, so that whoever has it open sees both as one: a file
that is deleted and begun anew is another file. A hole is never read. Nor is a copy, which may have
been made while samples were added: a file knows its own number.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from composer_dataagent.streaming.spans import coalesce, header_size, offsets_of

_DIGEST = hashlib.sha256().digest_size
_NUMBER = 8  # bytes of the file's inode
_BOOK = _DIGEST + _NUMBER  # before the bits of what is held
_MOST_AT_ONCE = 1 << 24  # bytes that are copied at once
_BLOCK = 512  # of st_blocks, whatever the file system's own are


class PartialShard:
    """An open file; closed when nobody holds this object any more.

    Args:
        path (str): The file.
        samples (int): Samples of the whole shard.
        size (int): Bytes of the whole shard.
        writable (bool): Whether samples can be added, by one process at a time. Default: ``False``.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is not of such a shard, or a copy.
    """

    def __init__(self, path: str, samples: int, size: int, writable: bool = False) -> None:
        self.samples = samples
        self.size = size
        self.descriptor = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        found = os.fstat(self.descriptor)
        if found.st_size != file_size(samples, size):
            raise ValueError(f"{path} has {found.st_size} bytes, not {file_size(samples, size)}")
        if os.pread(self.descriptor, _NUMBER, size + _DIGEST) != _number(self.descriptor):
            raise ValueError(f"{path} is a copy of the file that was written")

    @classmethod
    def create(cls, path: str, header: bytes, samples: int, size: int, version: str) -> None:
        """Make a file that holds no sample yet, in place of any other.

        Args:
            path (str): Where.
            header (bytes): The shard's first :func:`header_size` bytes.
            samples (int): See above.
            size (int): See above.
            version (str): What tells the object from one that takes its place, as its ETag.
        """
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with _replacing(path) as file:
            file.truncate(file_size(samples, size))
            file.write(header)
            file.seek(size)
            file.write(_digest(version) + _number(file.fileno()))

    def offsets(self) -> NDArray[np.int64]:
        """Where samples begin and end: see :func:`offsets_of`."""
        header = os.pread(self.descriptor, header_size(self.samples), 0)
        return offsets_of(header, self.samples, self.size)

    def is_of(self, version: str) -> bool:
        """Whether what it holds is of this version of the object."""
        return os.pread(self.descriptor, _DIGEST, self.size) == _digest(version)

    def has(self, sample: int) -> bool:
        """Whether a sample is held."""
        byte = os.pread(self.descriptor, 1, self.size + _BOOK + sample // 8)
        return bool(byte and byte[0] & 0x80 >> sample % 8)

    def held(self) -> NDArray[np.bool_]:
        """Which samples are held, ``[samples]``."""
        count = (self.samples + 7) // 8
        bits = os.pread(self.descriptor, count, self.size + _BOOK)
        return np.unpackbits(np.frombuffer(bits, np.uint8), count=self.samples).astype(bool)

    def write(self, data: bytes | memoryview, begin: int) -> None:
        """Write bytes of the shard; nobody reads them before :meth:`hold`."""
        data = memoryview(data)
        while data:  # a disk that is nearly full takes some of it, and then says so
            written = os.pwrite(self.descriptor, data, begin)
            data, begin = data[written:], begin + written

    def hold(self, samples: Iterable[int] | NDArray[np.int64]) -> None:
        """Say that samples are there now."""
        held = self.held()
        held[np.asarray(samples, np.int64)] = True
        os.pwrite(self.descriptor, np.packbits(held).tobytes(), self.size + _BOOK)

    def copy(self, path: str, samples: NDArray[np.int64]) -> None:
        """Make a file with some of the samples, in place of any other.

        Args:
            path (str): Where.
            samples (NDArray[np.int64]): Sorted numbers of samples that are held.

        Raises:
            ValueError: Its header is damaged.
        """
        with _replacing(path) as file:
            file.truncate(file_size(self.samples, self.size))
            file.write(os.pread(self.descriptor, header_size(self.samples), 0))
            for begin, end in coalesce(samples, self.offsets(), 0, _MOST_AT_ONCE):
                file.seek(begin)
                file.write(os.pread(self.descriptor, end - begin, begin))
            file.seek(self.size)
            file.write(os.pread(self.descriptor, _DIGEST, self.size) + _number(file.fileno()))
            held = np.zeros(self.samples, bool)
            held[samples] = True
            file.write(np.packbits(held).tobytes())

    def bytes_on_disk(self) -> int:
        """What the file takes of the disk."""
        return _BLOCK * os.fstat(self.descriptor).st_blocks

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def file_size(samples: int, size: int) -> int:
    """Bytes of a file for some samples of a shard, holes and all. No whole shard is as large."""
    return size + _BOOK + (samples + 7) // 8


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[BinaryIO]:
    """A file to write, which then takes the place of another."""
    # Process ids are not unique among containers that share a disk.
    beside = f"{path}.{uuid.uuid4().hex}"
    try:
        with open(beside, "wb") as file:
            yield file
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(beside)
        raise


def _number(descriptor: int) -> bytes:
    return os.fstat(descriptor).st_ino.to_bytes(_NUMBER, "little")


def _digest(version: str) -> bytes:
    return hashlib.sha256(version.encode()).digest()
