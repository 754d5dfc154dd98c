# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A fast object store on the loopback: the reading part of the S3 protocol, over a folder's files.

It counts what it answers, answers late and no faster than it is told, and takes little of the
processor, so that a bench measures its client. It imports nothing but the standard library, since
it runs as a process of its own, which is told what to do by lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import posixpath
import re
import resource
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from hashlib import md5
from pathlib import Path
from typing import Any
from urllib.parse import unquote

BUCKET = "data"
HOST = "127.0.0.1"
# All connections get as much at a time, in turns.
CHUNK = 1 << 16
# Timers are a millisecond or more late; what was not sent meanwhile may be sent at once.
BURST_SECONDS = 0.01
_REASONS = {
    200: "OK",
    206: "Partial Content",
    404: "Not Found",
    412: "Precondition Failed",
    416: "Requested Range Not Satisfiable",
    501: "Not Implemented",
}
_RANGE = re.compile(rb"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class Traffic:
    """Requests of one kind that were answered.

    Attributes:
        method (str): ``GET``, ``HEAD`` or what else was tried.
        ranged (bool): Whether they asked for a range.
        prefix (str): Folder of the objects, within the bucket.
        requests (int): How many.
        sent (int): Bytes of bodies that were sent, those of errors included.
    """

    method: str
    ranged: bool
    prefix: str
    requests: int
    sent: int


class LoopbackStore:
    """The handle to a server that runs; made by :func:`loopback_store`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.port: int = self._receive()

    @property
    def environment(self) -> dict[str, str]:
        """What makes a client go to this store and to no other, whatever the user has set up."""
        nowhere = os.devnull
        return {
            "S3_ENDPOINT_URL": f"http://{HOST}:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": nowhere,
            "AWS_SHARED_CREDENTIALS_FILE": nowhere,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": HOST,
            "no_proxy": HOST,
        }

    def url(self, prefix: str) -> str:
        """The URL of a folder of objects, as streaming's ``remote=`` takes it."""
        return f"s3://{BUCKET}/{prefix}"

    def throttle(self, latency: float = 0.0, bandwidth: float | None = None) -> None:
        """Answer late and slowly from now on.

        Args:
            latency (float): Seconds from a request to the first byte of its answer. Default: ``0``.
            bandwidth (float | None): Bytes of bodies per second, over all connections. Default:
                ``None`` (as fast as it can).
        """
        self._ask("throttle", latency, bandwidth)

    def counts(self) -> list[Traffic]:
        """What was answered since the last :meth:`reset`."""
        return [Traffic(*row) for row in self._ask("counts")]

    def connections(self) -> int:
        """How many clients have made since the last :meth:`reset`."""
        return self._ask("connections")

    def processor_seconds(self) -> float:
        """What the server took of the processor since it began."""
        return self._ask("processor_seconds")

    def reset(self) -> None:
        """Count from 0 again."""
        self._ask("reset")

    def _ask(self, verb: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, *arguments]).encode() + b"\n")
        self._process.stdin.flush()
        return self._receive()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the object store ended; what it said is above")
        return json.loads(line)


@contextmanager
def loopback_store(folder: str | Path) -> Iterator[LoopbackStore]:
    """Serve the files that are in a folder now, as objects of the bucket ``data``.

    Args:
        folder (str | Path): Its files must not change while they are served.
    """
    command = [sys.executable, "-I", __file__, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        try:
            store = LoopbackStore(process)
            yield store
            store._ask("end")  # forks of this process may still have the pipe open
        except BaseException:
            process.kill()
            raise


# ------------------------------------------------------------------ in the process of the server


class _Object:
    """A file and the headers that are the same in all answers about it."""

    def __init__(self, path: Path) -> None:
        self.content: memoryview | bytes = b""
        if path.stat().st_size:
            with path.open("rb") as file:
                self.content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self.etag = f'"{md5(self.content, usedforsecurity=False).hexdigest()}"'.encode()
        self.headers = (
            b"Content-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\nETag: %s\r\n"
            b"Last-Modified: %s\r\n"
            % (self.etag, formatdate(path.stat().st_mtime, usegmt=True).encode())
        )


class _Store:
    """What all connections share."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.objects = {
            f"/{BUCKET}/{path.relative_to(folder).as_posix()}": _Object(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        self.latency = 0.0
        self.bandwidth: float | None = None
        self.counted: dict[tuple[str, bool, str], list[int]] = {}
        self.waiting: deque[_Connection] = deque()
        self.free_at = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.pumping = False
        self.connections = 0

    def control(self, verb: str, *arguments: Any) -> Any:
        if verb == "throttle":
            self.latency, self.bandwidth = arguments
            self.pump()
        elif verb == "reset":
            self.counted.clear()
            self.connections = 0
        elif verb == "counts":
            return [[*kind, *counted] for kind, counted in self.counted.items()]
        elif verb == "connections":
            return self.connections
        elif verb == "processor_seconds":
            return time.process_time()
        elif verb == "end":
            self.loop.stop()
        return None

    def answer(self, head: bytes) -> tuple[bytes, memoryview | bytes, list[int]]:
        """Headers and body of the answer to a request, and where the body's bytes are counted."""
        line, _, _ = head.partition(b"\r\n")
        method, target, _ = line.split(b" ", 2)
        path = target.partition(b"?")[0].decode()
        if "%" in path:
            path = unquote(path)
        lower = head.lower()
        wanted = _field(head, lower, b"\r\nrange:")
        found = self.objects.get(path)
        prefix = posixpath.dirname(path.removeprefix(f"/{BUCKET}/"))
        kind = (method.decode(), wanted is not None, prefix)
        counted = self.counted.setdefault(kind, [0, 0])
        counted[0] += 1
        if method not in (b"GET", b"HEAD"):
            return *_error(501, "NotImplemented", method), counted
        if found is None:
            return *_error(404, "NoSuchKey", method), counted
        etag = _field(head, lower, b"\r\nif-match:")
        if etag is not None and etag.strip(b'"') != found.etag.strip(b'"') and etag != b"*":
            return *_error(412, "PreconditionFailed", method), counted
        size = len(found.content)
        status, extra, body = 200, b"", found.content
        if wanted is not None and (span := _RANGE.fullmatch(wanted)) and any(span.groups()):
            first, last = span.groups()
            begin = int(first) if first else max(size - int(last), 0)
            end = min(int(last) + 1, size) if first and last else size
            if begin >= size:
                return *_error(416, "InvalidRange", method), counted
            if begin < end:  # else it is none, and S3 sends everything
                status, body = 206, found.content[begin:end]
                extra = b"Content-Range: bytes %d-%d/%d\r\n" % (begin, end - 1, size)
        headers = b"HTTP/1.1 %d %s\r\nContent-Length: %d\r\n%s%s\r\n" % (
            status,
            _REASONS[status].encode(),
            len(body),
            extra,
            found.headers,
        )
        return headers, b"" if method == b"HEAD" else body, counted

    def enqueue(self, connection: _Connection) -> None:
        """Have a connection send what it has left to send, when its turn comes."""
        connection.queued = True
        self.waiting.append(connection)
        if self.timer is None and not self.pumping:
            self.pump()

    def pump(self) -> None:
        """Send chunks in turns, until nothing is left or the bandwidth is used up."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.pumping = True
        self._pump()
        self.pumping = False

    def _pump(self) -> None:
        while self.waiting:
            if self.bandwidth is not None:
                now = self.loop.time()
                self.free_at = max(self.free_at, now - BURST_SECONDS)
                if self.free_at > now:
                    self.timer = self.loop.call_at(self.free_at, self.pump)
                    return
            connection = self.waiting.popleft()
            sent = connection.send_chunk()
            if self.bandwidth is not None:
                self.free_at += sent / self.bandwidth
            if connection.is_ready():
                self.enqueue(connection)


class _Connection(asyncio.Protocol):
    def __init__(self, store: _Store) -> None:
        self.store = store
        self.received = bytearray()
        self.answering = False
        self.body: memoryview | bytes = b""
        self.counted: list[int] = []
        self.paused = False
        self.queued = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=CHUNK)
        self.transport = transport
        self.store.connections += 1

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.answering:
            self._next()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.is_ready():
            self.store.enqueue(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.body = b""

    def is_ready(self) -> bool:
        """Whether it has something to send, can send it, and does not wait for its turn yet."""
        return bool(self.body) and not self.paused and not self.queued

    def send_chunk(self) -> int:
        """Send the next chunk; gives its size."""
        self.queued = False
        chunk, self.body = self.body[:CHUNK], self.body[CHUNK:]
        if not chunk or self.transport.is_closing():
            self.body = b""
            return 0
        self.counted[1] += len(chunk)
        self.transport.write(chunk)
        if not self.body:
            self._end()
        return len(chunk)

    def _next(self) -> None:
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.received[: end + 2])
        del self.received[: end + 4]
        self.answering = True
        if self.store.latency:
            self.store.loop.call_later(self.store.latency, self._answer, head)
        else:
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        if self.transport.is_closing():
            return
        headers, self.body, self.counted = self.store.answer(head)
        if len(self.body) <= CHUNK and self.store.bandwidth is None:
            # One packet for both, which is half of the work.
            self.counted[1] += len(self.body)
            self.transport.write(b"".join([headers, self.body]))
            self.body = b""
        else:
            self.transport.write(headers)
        if self.body:
            self.store.enqueue(self)
        else:
            self._end()

    def _end(self) -> None:
        self.answering = False
        self._next()


def _field(head: bytes, lower: bytes, name: bytes) -> bytes | None:
    at = lower.find(name)
    if at < 0:
        return None
    return head[at + len(name) : head.index(b"\r\n", at + len(name))].strip()


def _error(status: int, code: str, method: bytes) -> tuple[bytes, bytes]:
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
        f"<Message>{_REASONS[status]}</Message></Error>"
    ).encode()
    headers = b"HTTP/1.1 %d %s\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % (
        status,
        _REASONS[status].encode(),
        len(body),
    )
    return headers, b"" if method == b"HEAD" else body


def _main(folder: str) -> None:
    # Every file stays mapped, and so open.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loop = asyncio.new_event_loop()
    store = _Store(Path(folder), loop)
    make = loop.create_server(lambda: _Connection(store), HOST, 0, backlog=1_024)
    server = loop.run_until_complete(make)
    said = bytearray()

    def listen() -> None:
        read = os.read(0, 1 << 16)
        if not read:
            loop.stop()
        said.extend(read)
        while (end := said.find(b"\n")) >= 0:
            line = bytes(said[:end])
            del said[: end + 1]
            reply(store.control(*json.loads(line)))

    def reply(result: Any) -> None:
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()

    loop.add_reader(0, listen)
    reply(server.sockets[0].getsockname()[1])
    loop.run_forever()


if __name__ == "__main__":
    _main(sys.argv[1])
