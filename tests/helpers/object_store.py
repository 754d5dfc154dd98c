# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A real S3 protocol server on the loopback, behind a proxy that fails on demand."""

from __future__ import annotations

import http.client
import json
import logging
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal
from urllib.request import ProxyHandler, Request, build_opener

BUCKET = "data"
_HOST = "127.0.0.1"
_CODES = {
    403: "AccessDenied",
    404: "NoSuchKey",
    416: "InvalidRange",
    500: "InternalError",
    503: "SlowDown",
}


@dataclass(frozen=True)
class Fault:
    """What happens to requests for objects.

    Attributes:
        key (str): Part of the key of the objects that it happens to.
        action (str): ``status``: answer with the status ``value``. ``delay``: answer ``value``
            seconds late. ``cut``: promise all of the object, send ``value`` bytes of it and close
            the connection. ``all of it``: answer with all of an object of which a range was asked
            for. ``truncate``: serve the object as if it had ``value`` bytes. ``flip``:
            invert the byte at the position ``value``.
        value (float): See above.
        times (int | None): How many requests it happens to; ``None``: all. What happens to content
            is counted where there is some: when it is fetched, not when its size is asked for.
    """

    key: str
    action: Literal["status", "delay", "cut", "all of it", "truncate", "flip"]
    value: float = 0
    times: int | None = None


@dataclass(frozen=True)
class ObjectStore:
    """A store that runs; can be sent to other processes.

    Attributes:
        port (int): Of the proxy, where clients go.
        backend_port (int): Of the S3 server itself.
        control_port (int): Where faults are asked for.
    """

    port: int
    backend_port: int
    control_port: int

    @property
    def environment(self) -> dict[str, str]:
        """What makes a client go to this store and to no other, whatever the user has set up."""
        nowhere = "/dev/null"
        return {
            "S3_ENDPOINT_URL": f"http://{_HOST}:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": nowhere,
            "AWS_SHARED_CREDENTIALS_FILE": nowhere,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": _HOST,
            "no_proxy": _HOST,
        }

    def upload(self, folder: str | Path, prefix: str) -> str:
        """Upload the files of a folder, not through the proxy; gives the URL for ``remote=``."""
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())
        return f"s3://{BUCKET}/{prefix}"

    def put(self, key: str, content: bytes) -> None:
        """Make an object, without the checksums that only newer clients add."""
        self._request("PUT", self.backend_port, f"/{BUCKET}/{key}", content)

    def break_down(self, *faults: Fault) -> None:
        """Have these faults from now on, and no others; forget the requests seen so far."""
        self._control("faults", [asdict(fault) for fault in faults])

    def mend(self) -> None:
        """Have no faults from now on."""
        self.break_down()

    def refuse(self, seconds: float) -> None:
        """Refuse connections for a while."""
        self._control("refuse", seconds)

    def faults_left(self) -> list[Fault]:
        """Faults that were not used up; those without an end always are left."""
        return [Fault(**fault) for fault in self._control("left", None)]

    def requests(self, key: str = "") -> list[str]:
        """Method and path of all requests since the faults were set, with ``key`` in their path."""
        return [request for request in self._control("requests", None) if key in request]

    def _control(self, verb: str, argument: Any) -> Any:
        content = json.dumps(argument).encode()
        return json.loads(self._request("POST", self.control_port, f"/{verb}", content))

    def _request(self, method: str, port: int, path: str, content: bytes) -> bytes:
        headers = {
            # The server asks for a signature, but does not look at it.
            "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/x",
            "Content-Type": "application/octet-stream",
        }
        request = Request(f"http://{_HOST}:{port}{path}", content, headers, method=method)
        with build_opener(ProxyHandler({})).open(request) as response:
            return response.read()


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Run both servers in a process of their own: forks of this one inherit no socket of theirs."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        store = ObjectStore(*ours.recv())
        store._request("PUT", store.backend_port, f"/{BUCKET}", b"")
        yield store
    finally:
        ours.send("end")  # it ends with us too, but not before all forks that have this pipe
        ours.close()
        process.join()


# ------------------------------------------------------------------ in the process of the servers


def _main(pipe: Connection) -> None:
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    backend = ThreadedMotoServer(_HOST, 0, verbose=False)
    backend.start()
    _, backend_port = backend.get_host_and_port()
    proxy = _Proxy(backend_port)
    threading.Thread(target=proxy.serve, daemon=True).start()
    proxy.is_up.wait()
    control = ThreadingHTTPServer((_HOST, 0), proxy.handler(_Control))
    threading.Thread(target=control.serve_forever, daemon=True).start()
    pipe.send((proxy.port, backend_port, control.server_port))
    try:
        pipe.recv()
    except EOFError:
        return


class _Proxy:
    """What all requests share."""

    def __init__(self, backend_port: int) -> None:
        self.backend_port = backend_port
        self.port = 0  # any, and then the same again
        self.is_up = threading.Event()
        self.down_for = 0.0
        self.lock = threading.Lock()
        self.requests: list[str] = []
        self.faults: list[tuple[Fault, int]] = []  # and how often each has happened

    def serve(self) -> None:
        """Serve until the process ends, with breaks."""
        while True:
            with ThreadingHTTPServer((_HOST, self.port), self.handler(_Objects)) as self.server:
                self.port = self.server.server_port
                self.is_up.set()
                self.server.serve_forever(poll_interval=0.01)
            time.sleep(self.down_for)

    def handler(self, cls: type[_Handler]) -> type[_Handler]:
        """A class of handlers that share this."""
        return type(cls.__name__, (cls,), {"shared": self})

    def control(self, verb: str, argument: Any) -> Any:
        with self.lock:
            if verb == "faults":
                self.faults = [(Fault(**fault), 0) for fault in argument]
                self.requests = []
            elif verb == "left":
                return [asdict(f) for f, done in self.faults if f.times is None or done < f.times]
            elif verb == "requests":
                return self.requests
            elif verb == "refuse":
                self.down_for = argument
                self.server.shutdown()
        return None

    def fault_of(self, method: str, path: str) -> Fault | None:
        """The first fault that concerns a request and is not used up."""
        with self.lock:
            self.requests.append(f"{method} {path}")
            for at, (fault, done) in enumerate(self.faults):
                if fault.key not in path or (fault.times is not None and done >= fault.times):
                    continue
                if method == "GET" or fault.action in ("status", "delay"):
                    self.faults[at] = (fault, done + 1)
                    return fault
                if fault.action == "truncate":
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    shared: _Proxy

    def answer(
        self,
        status: int,
        headers: Sequence[tuple[str, str]],
        size: int,
        content: bytes,
    ) -> None:
        """Answer, promising ``size`` bytes."""
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.send_header("Connection", "close")
        try:
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            return  # a client that did not wait for a late answer

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Control(_Handler):
    def do_POST(self) -> None:
        argument = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        result = json.dumps(self.shared.control(self.path[1:], argument)).encode()
        self.answer(200, [], len(result), result)


class _Objects(_Handler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        fault = self.shared.fault_of(self.command, self.path.partition("?")[0])
        action, value = (fault.action, int(fault.value)) if fault is not None else ("", 0)
        if action == "status":
            self._fail(value)
            return
        if fault is not None and action == "delay":
            time.sleep(fault.value)
        backend = http.client.HTTPConnection(_HOST, self.shared.backend_port)
        given = dict(self.headers)
        if action == "all of it":
            given = {name: text for name, text in given.items() if name.lower() != "range"}
        backend.request(self.command, self.path, headers=given)
        response = backend.getresponse()
        content, headers = response.read(), response.getheaders()
        size = int(response.headers["Content-Length"])
        backend.close()
        start = _start(response.headers.get("Content-Range"))
        if action == "truncate" and start >= value > 0:
            self._fail(416)
            return
        if action == "truncate":
            size, content = min(size, value - start), content[: max(value - start, 0)]
            headers = [(name, _shortened(name, given, start, size)) for name, given in headers]
        elif action == "flip" and 0 <= value - start < len(content):
            content = bytearray(content)
            content[value - start] ^= 0xFF
            content = bytes(content)
        elif action == "cut":
            content = content[:value]
        self.answer(response.status, headers, size, content)

    def do_PUT(self) -> None:
        if self.headers.get("Expect"):  # the client waits a second for it
            self.send_response_only(100)
            self.end_headers()
        content = self.rfile.read(int(self.headers["Content-Length"]))
        fault = self.shared.fault_of(self.command, self.path.partition("?")[0])
        if fault is not None and fault.action == "status":
            self._fail(int(fault.value))
            return
        backend = http.client.HTTPConnection(_HOST, self.shared.backend_port)
        given = {name: text for name, text in self.headers.items() if name.lower() != "expect"}
        backend.request("PUT", self.path, content, given)
        response = backend.getresponse()
        answered, headers = response.read(), response.getheaders()
        backend.close()
        self.answer(response.status, headers, len(answered), answered)

    def _fail(self, status: int) -> None:
        code = _CODES[status]
        content = f"<Error><Code>{code}</Code><Message>{code}, as asked</Message></Error>".encode()
        headers = [("Content-Type", "application/xml")]
        self.answer(status, headers, len(content), b"" if self.command == "HEAD" else content)


def _start(content_range: str | None) -> int:
    """Where a range of an object begins; 0 of all of it."""
    return int(content_range.removeprefix("bytes ").split("-")[0]) if content_range else 0


def _shortened(name: str, value: str, start: int, size: int) -> str:
    """A header of an object that ends ``size`` bytes after ``start``."""
    if name.lower() != "content-range":
        return value
    return f"bytes {start}-{start + size - 1}/{start + size}"
