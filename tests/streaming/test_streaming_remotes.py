# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which remotes are read by ranges, and how their clients are set up; nothing is asked of them."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from object_store import ObjectStore

from composer_dataagent.streaming.remotes import can_read_ranges, open_store

RANGED = ("s3://bucket/a", "gs://bucket/a", "azure://account.blob.example/container/a", "/a", "a/b")
RANGED += ("s3://bucket", "s3://bucket/", "s3://bucket/a/", "a//b/../c")
WHOLE = ("oci://b@n/a", "sftp://host/a", "hf://datasets/a", "dbfs:/Volumes/a", "azure-dl://a/b")
# Keys that are no paths: streaming reads just these.
NO_PATHS = (
    "s3://bucket/a//",
    "s3://bucket//a",
    "gs://bucket/a//b",
    "s3://bucket/a/../b",
    "s3://b/.",
)
NONE = "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"


@pytest.mark.parametrize("remote", RANGED)
def test_read_by_ranges(remote: str) -> None:
    assert can_read_ranges(remote)


@pytest.mark.parametrize("remote", [*WHOLE, *NO_PATHS, None, ""])
def test_read_whole(remote: str | None) -> None:
    assert not can_read_ranges(remote)


def test_s3_as_streaming_sets_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NONE:
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-9")
    monkeypatch.setenv("MOSAICML_STREAMING_AWS_REQUESTER_PAYS", "other, bucket")
    store: Any = open_store("s3://bucket/some/where", 7.0)
    assert store.prefix == "some/where"
    config = {str(name): value for name, value in store.config.items()}
    assert config["endpoint"] == "http://127.0.0.1:1"
    assert config["region"] == "eu-central-9"
    assert str(config["request_payer"]).lower() == "true"
    assert str(config["skip_signature"]).lower() == "true"  # no credentials: a public bucket


@pytest.mark.parametrize("signed", [True, False])
def test_buckets_of_other_regions(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, signed: bool
) -> None:
    settings = store.environment
    endpoint = settings.pop("S3_ENDPOINT_URL")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    region = "eu-central-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{store.backend_port}")
    client.create_bucket(
        Bucket=f"far-{signed}".lower(), CreateBucketConfiguration={"LocationConstraint": region}
    )
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    if not signed:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    opened: Any = open_store(f"s3://far-{signed}/a".lower(), 7.0)
    config = {str(name): value for name, value in opened.config.items()}
    assert config["region"] == region


def test_gcs_by_its_keys_for_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCS_KEY", "key")
    monkeypatch.setenv("GCS_SECRET", "secret")
    store: Any = open_store("gs://bucket/a", 7.0)
    assert str(store.config["access_key_id"]) == "key"
    assert "storage.googleapis" in str(store.config["endpoint"])


def test_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_ACCOUNT_ACCESS_KEY", "a2V5")
    store: Any = open_store("azure://account.blob.example/container/some/where", 7.0)
    assert store.prefix == "some/where"
    assert str(store.config["account_name"]) == "account"
