# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The benches' object store answers clients as a full S3 server does, and counts its answers."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import quote

import boto3
import numpy as np
import pytest
from botocore.exceptions import ClientError
from egress.server import BUCKET, LoopbackStore, Traffic, loopback_store
from object_store import object_store
from obstore.store import S3Store

CONTENTS = {
    "shards/large": np.random.default_rng(0).bytes(3_000_001),
    "shards/small": b"0123456789",
    "shards/deep/with space+é": b"named",
    "empty": b"",
}
LARGE = len(CONTENTS["shards/large"])
REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "whole": ("get_object", "shards/large", {}),
    "small": ("get_object", "shards/small", {}),
    "empty": ("get_object", "empty", {}),
    "named": ("get_object", "shards/deep/with space+é", {}),
    "size": ("head_object", "shards/large", {}),
    "range": ("get_object", "shards/large", {"Range": "bytes=70000-2000000"}),
    "first byte": ("get_object", "shards/large", {"Range": "bytes=0-0"}),
    "last byte": ("get_object", "shards/large", {"Range": f"bytes={LARGE - 1}-{LARGE - 1}"}),
    "open end": ("get_object", "shards/small", {"Range": "bytes=4-"}),
    "from the end": ("get_object", "shards/small", {"Range": "bytes=-4"}),
    "beyond the end": ("get_object", "shards/small", {"Range": "bytes=8-99"}),
    "outside": ("get_object", "shards/small", {"Range": "bytes=10-12"}),
    "no object": ("get_object", "shards/none", {}),
    "no object to ask for": ("head_object", "shards/none", {}),
    "range of no object": ("get_object", "shards/none", {"Range": "bytes=0-1"}),
    "unlike": ("get_object", "shards/small", {"IfMatch": '"other"'}),
    "alike": (
        "get_object",
        "shards/small",
        {"IfMatch": '"781e5e245d69b566979b86e28d23f2c7"', "Range": "bytes=1-2"},
    ),
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LoopbackStore, Any]]:
    """Ours, and one that has the same objects and speaks all of the protocol."""
    folder = tmp_path_factory.mktemp("objects")
    for key, content in CONTENTS.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(content)
    with loopback_store(folder) as ours, object_store() as full:
        for key, content in CONTENTS.items():
            full.put(quote(key), content)
        yield ours, full


def client_of(store: Any) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=store.environment["S3_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def rust_client_of(store: Any) -> S3Store:
    return S3Store(
        BUCKET,
        endpoint=store.environment["S3_ENDPOINT_URL"],
        region="us-east-1",
        access_key_id="test",
        secret_access_key="test",
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )


@pytest.mark.parametrize("name", REQUESTS)
def test_boto3_is_answered_alike(stores: tuple[Any, Any], name: str) -> None:
    method, key, arguments = REQUESTS[name]

    def answer(store: Any) -> dict[str, Any]:
        try:
            given = getattr(client_of(store), method)(Bucket=BUCKET, Key=key, **arguments)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {})["HTTPStatusCode"]
            return {"status": status, "code": error.response.get("Error", {})["Code"]}
        assert abs(given["LastModified"].timestamp() - time.time()) < 3_600
        names = ("ContentLength", "ContentRange", "ContentType", "ETag", "AcceptRanges")
        body = given["Body"].read() if method == "get_object" else None
        status = given["ResponseMetadata"]["HTTPStatusCode"]
        return {name: given.get(name) for name in names} | {"body": body, "status": status}

    ours, full = map(answer, stores)
    assert ours == full


def apart(call: Callable[[], Any]) -> Any:
    """What a call gives in a fork: forks of a process with a client cannot read themselves."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=lambda: theirs.send(call()))
    process.start()
    theirs.close()
    given = ours.recv()
    process.join()
    return given


RUST: dict[str, Callable[[S3Store], Any]] = {
    "whole": lambda s: s.get("shards/large").bytes().to_bytes(),
    "named": lambda s: s.get("shards/deep/with space+é").bytes().to_bytes(),
    "size": lambda s: {k: v for k, v in s.head("shards/large").items() if k != "last_modified"},
    "range": lambda s: s.get_range("shards/large", start=70_000, end=2_000_000).to_bytes(),
    "ranges": lambda s: [
        part.to_bytes()
        for part in s.get_ranges("shards/large", starts=[0, 10, 2_000_000], ends=[4, 20, 2_500_000])
    ],
    "beyond the end": lambda s: s.get_range("shards/small", start=8, end=99).to_bytes(),
    "outside": lambda s: s.get_range("shards/small", start=10, end=12).to_bytes(),
    "no object": lambda s: s.get("shards/none"),
    "no object to ask for": lambda s: s.head("shards/none"),
    "unlike": lambda s: s.get("shards/small", options={"if_match": '"other"'}),
}


@pytest.mark.parametrize("name", RUST)
def test_obstore_is_answered_alike(stores: tuple[Any, Any], name: str) -> None:
    def answer(store: Any) -> Any:
        try:
            return RUST[name](rust_client_of(store))
        except Exception as error:
            return type(error).__name__

    ours, full = (apart(partial(answer, store)) for store in stores)
    assert ours == full


def test_what_is_sent_is_counted(stores: tuple[LoopbackStore, Any]) -> None:
    ours, _ = stores
    client = client_of(ours)
    ours.reset()
    client.head_object(Bucket=BUCKET, Key="shards/large")
    for _ in range(2):
        client.get_object(Bucket=BUCKET, Key="shards/large")["Body"].read()
    client.get_object(Bucket=BUCKET, Key="shards/large", Range="bytes=5-99999")["Body"].read()
    client.get_object(Bucket=BUCKET, Key="empty")["Body"].read()
    assert ours.counts() == [
        Traffic("HEAD", False, "shards", 1, 0),
        Traffic("GET", False, "shards", 2, 2 * LARGE),
        Traffic("GET", True, "shards", 1, 99_995),
        Traffic("GET", False, "", 1, 0),
    ]
    assert ours.connections() == 1
    ours.reset()
    assert (ours.counts(), ours.connections()) == ([], 0)
    assert ours.processor_seconds() > 0


def test_it_is_as_late_and_as_slow_as_it_is_told(stores: tuple[LoopbackStore, Any]) -> None:
    ours, _ = stores

    def seconds(key: str, clients: int) -> float:
        store = rust_client_of(ours)
        start = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            contents = list(pool.map(lambda _: store.get(key).bytes().to_bytes(), range(clients)))
        assert contents == [CONTENTS[key]] * clients
        return time.perf_counter() - start

    ours.throttle(latency=0.3)
    # All wait at the same time.
    assert apart(partial(seconds, "shards/small", 4)) >= 0.3
    ours.throttle(bandwidth=LARGE / 0.2)
    assert apart(partial(seconds, "shards/large", 4)) >= 0.2 * 4 * 0.9
    ours.throttle()
