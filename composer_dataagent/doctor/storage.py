# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Can the data be read, and the cache and the runs be written?"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlparse

from composer_dataagent.doctor.finding import Finding
from composer_dataagent.doctor.machine import cannot_write, free_bytes
from composer_dataagent.units import bytes_in_words

_LENGTH = 200  # of what a client says
_NO_INDEX = "there is no index.json"
# What a client says, in part, and what that means. The first that fits counts.
_REASONS = (
    (
        ("NoCredentials", "Unable to locate credentials", "DefaultCredentialsError"),
        "there are no credentials",
        "set them in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
        "GOOGLE_APPLICATION_CREDENTIALS; AZURE_ACCOUNT_NAME and AZURE_ACCOUNT_ACCESS_KEY), or in "
        "the client's own file",
    ),
    (
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
        "the credentials are wrong or have expired",
        "renew them; of several, the environment's go before those of files",
    ),
    (
        ("NoSuchBucket", "bucket does not exist", "ContainerNotFound"),
        "there is no such bucket",
        "look at its name, and at S3_ENDPOINT_URL if the store is not of AWS",
    ),
    (
        ("403", "Forbidden", "AccessDenied", "Access Denied"),
        "these credentials may not read it",
        "they need the right to read objects, and to list the bucket if a wrong path is to be told "
        "from a forbidden one",
    ),
    (
        ("404", "NoSuchKey", "Not Found", "FileNotFoundError"),
        _NO_INDEX,
        "name the folder that MDSWriter wrote; --split, if it is in a folder within",
    ),
    (
        ("EndpointConnectionError", "Connect", "timed out", "Timeout", "Name or service"),
        "it cannot be reached",
        "look at the network, a proxy (HTTPS_PROXY), and at S3_ENDPOINT_URL",
    ),
)


def check_local(folder: Path, needed: int | None = None) -> Finding:
    """Whether a folder can be written, and has room.

    Args:
        folder (Path): It, or the one that it would be made in.
        needed (int | None): Bytes that will go there. Default: not known.
    """
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        return Finding("bad", f"{folder}: {there} is a file", "name another folder")
    if problem := cannot_write(there):
        return Finding("bad", f"{there} {problem}", "name another folder, or change its owner")
    free = free_bytes(there)
    if needed is not None and free < needed:
        return Finding(
            "bad",
            f"{folder}: {bytes_in_words(free)} free, but {bytes_in_words(needed)} are to go there",
            "make room, or give the data set a cache_limit",
        )
    return Finding("good", f"{folder}: {bytes_in_words(free)} free")


def check_remote(source: str, split: str | None = None) -> tuple[Finding, int | None]:
    """Whether data can be read where they are; fetches their index, and nothing else.

    Args:
        source (str): URL or folder, as streaming takes it.
        split (str | None): Folder within it. Default: none.

    Returns:
        tuple[Finding, int | None]: It, and the bytes of all shards where that is known.
    """
    from composer_dataagent.streaming.index_file import read_index

    try:
        index = read_index(source, split)
    except Exception as error:  # of any provider's client
        cause = error.__cause__ or error
        said = f"{type(cause).__name__}: {cause}".strip().splitlines()[0][:_LENGTH]
        codes = _codes(source, cause)
        for words, what, advice in _REASONS:
            if any(word in (codes or said) for word in words):
                if what == _NO_INDEX and split is None and (splits := _splits(source)):
                    one = len(splits) == 1
                    advice = (
                        f"the data are in its {'folder' if one else 'folders'} "
                        f"{' and '.join(splits)}: name {'it' if one else 'one of these'} "
                        f"(doctor --split {splits[0]}; in a recipe's data set, split)"
                    )
                return Finding("bad", f"{source}: {what} ({said})", advice), None
        return Finding("bad", f"{source} cannot be read ({said})"), None
    sizes = index.sizes
    total = int(sizes.stored.sum())
    what = f"{source}: {sizes.num_samples:,} samples in {len(sizes.samples):,} shards"
    what += f", {bytes_in_words(total)}"
    if index.whole:
        share = sum(index.whole.values()) / total
        reasons = ", ".join(index.whole)
        what += f"; {share:.0%} of it always comes in whole shards, which are {reasons}"
    return Finding("good", what), total


def _splits(source: str) -> list[str]:
    """Folders within that have data."""
    from composer_dataagent.streaming.index_file import SPLITS

    return [split for split in SPLITS if check_remote(source, split)[0].level == "good"]


def _codes(source: str, error: BaseException) -> str:
    """What S3 answered: streaming's client says `not found` of all that it does not get."""
    code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
    return "NoSuchBucket" if code == "404" and not _has_bucket(source) else code


def _has_bucket(source: str) -> bool:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client("s3", endpoint_url=os.environ.get("S3_ENDPOINT_URL"))
    try:
        client.head_bucket(Bucket=urlparse(source).netloc)
    except ClientError as error:
        return error.response["Error"]["Code"] != "404"
    except BotoCoreError:
        pass  # not known
    return True
