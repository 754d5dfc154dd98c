# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Clients of object stores that read ranges, set up as streaming sets up its own.

The same variables of the environment count: see ``streaming/base/storage/download.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# Attempts beyond streaming's own download_retry, of requests that a store refuses for a moment.
_RETRIES = 3


def can_read_ranges(remote: str | None) -> bool:
    """Whether ranges of a remote's objects can be read; all other remotes are read whole.

    Args:
        remote (str | None): As streaming takes it: a URL or a folder.
    """
    url = urlparse(remote or "")
    # The client takes objects' names for paths, where these are no folders.
    is_path = not {"", ".", ".."} & {*url.path.removesuffix("/").split("/")[1:]}
    return bool(remote) and url.scheme in _OPENERS and (is_path or not url.scheme)


def open_store(remote: str, timeout: float) -> ObjectStore:
    """A client whose paths are relative to a remote.

    Args:
        remote (str): One for which :func:`can_read_ranges` holds.
        timeout (float): Seconds that a request may take.

    Returns:
        ObjectStore: Of ``obstore``. It must not be used in forks of this process, nor may one have
        been used before the process was forked: they would wait forever.
    """
    url = urlparse(remote)
    return _OPENERS[url.scheme](remote, timeout)


def _settings(timeout: float) -> dict[str, Any]:
    return {
        "client_options": {"timeout": timedelta(seconds=timeout), "allow_http": True},
        "retry_config": {"max_retries": _RETRIES},
    }


def _open_folder(remote: str, timeout: float) -> ObjectStore:
    from obstore.store import LocalStore

    del timeout
    return LocalStore(os.path.abspath(remote))


def _open_s3(remote: str, timeout: float) -> ObjectStore:
    from boto3.session import Session
    from obstore.auth.boto3 import Boto3CredentialProvider

    url = urlparse(remote)
    session = Session()
    more: dict[str, Any] = {"region": _region_of(url.netloc, session, timeout)}
    if session.get_credentials() is None:
        more["skip_signature"] = True
    else:
        more["credential_provider"] = Boto3CredentialProvider(session)
    if endpoint := os.environ.get("S3_ENDPOINT_URL"):
        more["endpoint"] = endpoint
    payers = os.environ.get("MOSAICML_STREAMING_AWS_REQUESTER_PAYS", "").split(",")
    if url.netloc in map(str.strip, payers):
        more["request_payer"] = True
    return _s3_store(url.netloc, url.path, timeout, more)


def _region_of(bucket: str, session: Any, timeout: float) -> str:
    """Where a bucket is: other than streaming's client, ours is not sent on to another region."""
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    region = session.region_name or "us-east-1"
    if os.environ.get("S3_ENDPOINT_URL"):
        return region
    unsigned = {} if session.get_credentials() else {"signature_version": UNSIGNED}
    config = Config(connect_timeout=timeout, read_timeout=timeout, **unsigned)
    try:
        answer = session.client("s3", region_name=region, config=config).head_bucket(Bucket=bucket)
    except ClientError as error:  # it may not be asked, but says where it is
        answer = error.response
    except BotoCoreError:
        return region
    return answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", region)


def _open_gcs(remote: str, timeout: float) -> ObjectStore:
    from obstore.store import GCSStore

    url = urlparse(remote)
    if "GCS_KEY" in os.environ and "GCS_SECRET" in os.environ:
        keys = {
            "endpoint": "https://storage.googleapis.com",
            "region": "auto",
            "access_key_id": os.environ["GCS_KEY"],
            "secret_access_key": os.environ["GCS_SECRET"],
        }
        return _s3_store(url.netloc, url.path, timeout, keys)
    from obstore.auth.google import GoogleCredentialProvider

    return GCSStore(
        url.netloc,
        prefix=url.path.strip("/") or None,
        credential_provider=GoogleCredentialProvider(),
        **_settings(timeout),
    )


def _open_azure(remote: str, timeout: float) -> ObjectStore:
    from obstore.store import AzureStore

    url = urlparse(remote)
    container, _, prefix = url.path.strip("/").partition("/")
    key = os.environ.get("AZURE_ACCOUNT_ACCESS_KEY")
    return AzureStore(
        container,
        prefix=prefix or None,
        account_name=os.environ.get("AZURE_ACCOUNT_NAME") or url.netloc.split(".")[0],
        **({"account_key": key} if key else {"skip_signature": True}),
        **_settings(timeout),
    )


def _s3_store(bucket: str, path: str, timeout: float, more: dict[str, Any]) -> ObjectStore:
    from obstore.store import S3Store

    return S3Store(bucket, prefix=path.strip("/") or None, **more, **_settings(timeout))


_OPENERS: dict[str, Callable[[str, float], ObjectStore]] = {
    "": _open_folder,
    "s3": _open_s3,
    "gs": _open_gcs,
    "azure": _open_azure,
}
