# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Scikit-learn's digits as image files, and ``tools/convert.py`` over them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from convert import main
from PIL import Image
from streaming import StreamingDataset

from composer_dataagent.recipes.digits import load_splits

TOOL = Path(__file__).parents[2] / "tools" / "convert.py"
NAMES = [f"digit {i}" for i in range(10)]


def digits(split: str, count: int) -> list[tuple[np.ndarray, int]]:
    """The first images ``[8, 8]`` uint8 of a split, with their labels."""
    images, labels = load_splits()[split]
    return [(images[i], int(labels[i])) for i in range(count)]


def encoded(image: np.ndarray, kind: str) -> bytes:
    """A grey PNG, or a JPEG in colour."""
    buffer = io.BytesIO()
    picture = Image.fromarray(image)
    if kind == "PNG":
        picture.save(buffer, "PNG")
    else:
        picture.convert("RGB").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def image_folder(root: Path, split: str, count: int, kind: str = "PNG") -> Path:
    """A folder of images for each class that occurs."""
    for i, (image, label) in enumerate(digits(split, count)):
        folder = root / NAMES[label]
        folder.mkdir(parents=True, exist_ok=True)
        suffix = {"PNG": "png", "JPEG": "JPG"}[kind]
        (folder / f"{i:04}.{suffix}").write_bytes(encoded(image, kind))
    return root


def convert(*arguments: object) -> Result:
    """In this process, and one part at a time: another takes seconds to begin."""
    given = [str(argument) for argument in arguments]
    if given[0] != "verify" and "--jobs" not in given:
        given += ["--jobs", "1"]
    if given[0] == "verify":
        given += ["--jobs", "1"]
    return CliRunner().invoke(main, given)


def converted(*arguments: object) -> dict[str, Any]:
    """What the last line says."""
    result = convert(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout.splitlines()[-1])


def told(result: Result) -> str:
    """What an error says, without line breaks."""
    assert isinstance(result.exception, SystemExit | None), result.exception
    return " ".join(result.output.split())


def stored(folder: Path) -> list[tuple[bytes, int]]:
    """The bytes and label of each sample, as stock streaming finds them."""
    dataset = StreamingDataset(local=str(folder), batch_size=1, shuffle=False)
    found = []
    for i in range(dataset.num_samples):
        sample = dataset[i]
        found.append((sample["image"].fp.getvalue(), sample["label"]))
    return found
