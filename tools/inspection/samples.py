# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A sample in words."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from composer_dataagent.recipes.excerpts import decoder_of
from composer_dataagent.report.wording import short
from composer_dataagent.units import bytes_in_words

_EXCERPT = 160
_NUMBERS = 8


def in_words(sample: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, str]:
    """What each column of a sample is.

    Args:
        sample (Mapping[str, Any]): As streaming decodes it.
        about (Mapping[str, Any]): What the index tells of tokens and classes, if anything.

    Returns:
        dict[str, str]: By column, one line each.
    """
    return {name: _value(name, value, about) for name, value in sample.items()}


def _value(name: str, value: Any, about: Mapping[str, Any]) -> str:
    if isinstance(value, Image.Image):
        return _image(value)
    if isinstance(value, bytes):
        return _bytes(value)
    if isinstance(value, np.ndarray):
        return _array(name, value, about)
    if isinstance(value, np.integer):
        value = int(value)
    images = about.get("images")
    if isinstance(images, Mapping) and name == images.get("label") and isinstance(value, int):
        return _class(value, images.get("class_names"))
    return short(value if isinstance(value, str) else repr(value), _EXCERPT)


def _image(image: Image.Image) -> str:
    return f"{image.format or 'image'}, {image.width} x {image.height}, {image.mode}"


def _bytes(value: bytes) -> str:
    size = bytes_in_words(len(value))
    try:
        with Image.open(io.BytesIO(value)) as image:
            return f"{_image(image)}, {size}"
    except Exception:  # no image, or one that Pillow does not read
        return f"{size}: {short(value[:_EXCERPT].decode(errors='replace'), _EXCERPT)}"


def _array(name: str, array: Any, about: Mapping[str, Any]) -> str:
    shape = " x ".join(map(str, array.shape))
    tokens = about.get("tokens")
    if name == "tokens" and isinstance(tokens, Mapping) and array.ndim == 1:
        decode = decoder_of(str(tokens.get("tokenizer")))
        if decode is not None:
            return f"{array.dtype} [{shape}]: {short(decode(array), _EXCERPT)}"
    more = " ..." if array.size > _NUMBERS else ""
    numbers = " ".join(f"{value:.6g}" for value in array.reshape(-1)[:_NUMBERS].tolist())
    return f"{array.dtype} [{shape}]: {numbers}{more}"


def _class(label: int, names: Any) -> str:
    known = isinstance(names, list) and 0 <= label < len(names)
    return f"{label} ({short(names[label], 60)})" if known else str(label)
