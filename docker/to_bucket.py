# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Upload a folder into a bucket of S3, or of what S3_ENDPOINT_URL names, and make the bucket.

Example: ``python docker/to_bucket.py data/digits digits``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import boto3
from botocore.exceptions import ClientError
from tqdm import tqdm

if len(sys.argv) != 3 or not Path(sys.argv[1]).is_dir():
    sys.exit("usage: to_bucket.py FOLDER BUCKET, where FOLDER is there")
folder, bucket = Path(sys.argv[1]), sys.argv[2]
client = boto3.client("s3", endpoint_url=os.environ.get("S3_ENDPOINT_URL"))
try:
    client.head_bucket(Bucket=bucket)
except ClientError as error:
    if error.response["Error"]["Code"] != "404":
        raise
    client.create_bucket(Bucket=bucket)
for path in tqdm(sorted(each for each in folder.rglob("*") if each.is_file()), unit="file"):
    client.upload_file(str(path), bucket, path.relative_to(folder).as_posix())
print(f"{folder} is in s3://{bucket}")
