# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Read a sample out of a local MDS shard at no more than the cost of the read.

Streaming makes the decoders of all columns anew for each sample, opens a buffered file for it, and
takes what bytes it gets for the sample. Here decoders are made once, the file stays open where that
costs no space, and a file that is not as large as the index says is not read at all.
"""

from __future__ import annotations

import functools
import mmap
import os
import sys
import weakref
from bisect import bisect_right
from collections.abc import Callable
from struct import Struct
from typing import Any, ClassVar

from streaming.base.format.mds.encodings import _get_coder
from streaming.base.format.mds.reader import MDSReader
from streaming.base.spanner import Spanner

from composer_dataagent.streaming.spans import header_size

_SPAN = Struct("=2I")  # where a sample begins and ends
_FILES_KEPT = 128  # a process may often have no more than 1,024 open


class DamagedShardError(FileNotFoundError):
    """A shard's file is not as large as the index says.

    A ``FileNotFoundError``, since that is how streaming's ``get_item`` learns that a shard must be
    prepared.
    """


class _OpenFile:
    """A descriptor that is closed when nobody holds this object any more, in whichever thread."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class FastMDSReader(MDSReader):
    """An MDS shard, read by position. Its samples are equal to those of ``MDSReader``."""

    def __getitem__(self, at: Any) -> Any:
        if type(at) is int and 0 <= at < self.samples:
            return self.decode_sample(self.get_sample_data(at))
        return super().__getitem__(at)

    def get_sample_data(self, idx: int) -> bytes:
        """The bytes of a sample.

        Args:
            idx (int): Its number within the shard.

        Raises:
            FileNotFoundError: The shard is not local, or not whole.
        """
        return self._read(self._open(), idx)

    def _read(self, file: Any, idx: int) -> bytes:
        span = os.pread(file.descriptor, _SPAN.size, 4 * (1 + idx))
        if len(span) == _SPAN.size:
            begin, end = _SPAN.unpack(span)
            self._check_span(idx, begin, end)
            data = os.pread(file.descriptor, end - begin, begin)
            if len(data) == end - begin:
                return data
        self._close()
        raise DamagedShardError(f"{self._path} is damaged: it was cut short while it was open")

    def decode_sample(self, data: bytes) -> dict[str, Any]:
        """Bytes to columns."""
        return self._decode(data)

    def is_partial(self) -> bool:
        """Whether the shard is there in part, with nothing wrong about that. Default: never."""
        return False

    def evict_unfinished(self) -> None:
        """Delete what somebody did not finish to prepare."""
        self.evict()

    @functools.cached_property
    def _path(self) -> str:
        return os.path.join(self.dirname, self.split, self.raw_data.basename)

    @functools.cached_property
    def _decode(self) -> Callable[[bytes], dict[str, Any]]:
        return _decoder(
            tuple(self.column_names), tuple(self.column_encodings), tuple(self.column_sizes)
        )

    def _open(self) -> Any:
        file = _OpenFile(self._path)
        size = os.fstat(file.descriptor).st_size
        if size != self.raw_data.bytes:
            raise DamagedShardError(
                f"{self._path} is damaged: it has {size} bytes, but the index says "
                f"{self.raw_data.bytes}"
            )
        samples = int.from_bytes(os.pread(file.descriptor, 4, 0), sys.byteorder)
        if samples != self.samples:
            raise DamagedShardError(
                f"{self._path} is damaged: it has {samples} samples, but the index says "
                f"{self.samples}"
            )
        return file

    def _close(self) -> None:
        """Let the next read open the file anew."""

    def _check_span(self, idx: int, begin: int, end: int) -> None:
        if not header_size(self.samples) <= begin < end <= self.raw_data.bytes:
            raise DamagedShardError(
                f"{self._path} is damaged: it says that sample {idx} is from byte {begin} to {end}"
            )

    def __getstate__(self) -> dict[str, Any]:
        # Maps and functions stay in their process.
        return {k: v for k, v in vars(self).items() if k not in ("_map", "_decode")}


class OpenMDSReader(FastMDSReader):
    """An MDS shard whose file stays open, as long as it is among those that were read last."""

    # The one used last comes last. By reader, not by path: another dataset may have come to a path.
    _files: ClassVar[dict[OpenMDSReader, Any]] = {}

    def _open(self) -> Any:
        files = self._files
        file = files.pop(self, None) or super()._open()
        files[self] = file
        while len(files) > _FILES_KEPT:
            files.pop(next(iter(files)), None)
        return file

    def _close(self) -> None:
        self._files.pop(self, None)

    def evict(self) -> int:
        """Delete the shard's files; an open one would keep its space."""
        self._close()
        return super().evict()


class MappedMDSReader(FastMDSReader):
    """An MDS shard, read through a memory map that stays open."""

    def get_sample_data(self, idx: int) -> bytes:
        """The bytes of a sample. See :meth:`FastMDSReader.get_sample_data`."""
        data = self._map
        begin, end = _SPAN.unpack_from(data, 4 * (1 + idx))
        self._check_span(idx, begin, end)
        return data[begin:end]

    @functools.cached_property
    def _map(self) -> mmap.mmap:
        file = self._open()
        return mmap.mmap(file.descriptor, 0, access=mmap.ACCESS_READ)

    def evict(self) -> int:
        """Delete the shard's files; the map would keep their space."""
        vars(self).pop("_map", None)
        return super().evict()


class FastSpanner(Spanner):
    """From a sample id to its shard by bisection of a list, which is faster than NumPy for one."""

    def __getitem__(self, index: int) -> tuple[int, int]:
        starts, index = self._starts, int(index)
        if not 0 <= index < self.num_samples:
            return super().__getitem__(index)  # raises
        shard = bisect_right(starts, index) - 1
        return shard, index - starts[shard]

    @functools.cached_property
    def _starts(self) -> list[int]:
        return self.shard_bounds[:-1].tolist()


def speed_up(dataset: Any, memory_map: bool) -> None:
    """Make what is between a sample id and its columns fast, in place.

    Args:
        dataset (Any): A StreamingDataset. Shards of other formats than MDS are left as they are.
        memory_map (bool): Keep the files mapped. The files must then not be cut short while they
            are in use: the system ends a process that reads beyond the end of a map.
    """
    # A file that is deleted keeps its space while another process has it open: with a limit on
    # space, it is opened for each sample.
    unlimited = MappedMDSReader if memory_map else OpenMDSReader
    reader = unlimited if dataset.cache_limit is None else FastMDSReader
    dataset.spanner.__class__ = FastSpanner
    weakref.finalize(dataset, _close_all, dataset.shards).atexit = False
    for shard in dataset.shards:
        if type(shard) in (MDSReader, FastMDSReader, OpenMDSReader, MappedMDSReader):
            shard.__class__ = reader


def _close_all(shards: list[Any]) -> None:
    for shard in shards:
        if isinstance(shard, FastMDSReader):
            shard._close()


@functools.cache
def _decoder(
    names: tuple[str, ...], encodings: tuple[str, ...], sizes: tuple[int | None, ...]
) -> Callable[[bytes], dict[str, Any]]:
    """The function that decodes samples of these columns, one for all shards that have them.

    A sample is the sizes of its columns of variable size, uint32 each, then all columns.
    """
    decoders = [_coder(encoding).decode for encoding in encodings]
    header = Struct(f"={sum(not size for size in sizes)}I")
    columns = list(zip(names, decoders, sizes, strict=True))

    def decode(data: bytes) -> dict[str, Any]:
        variable = iter(header.unpack_from(data))
        end = header.size
        sample = {}
        for name, decode_column, size in columns:
            begin, end = end, end + (size or next(variable))
            sample[name] = decode_column(data[begin:end])
        return sample

    return decode


def _coder(encoding: str) -> Any:
    coder = _get_coder(encoding)
    if coder is None:
        raise ValueError(f"Unsupported encoding: {encoding}.")
    return coder
