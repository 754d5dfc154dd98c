# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A sample's stored columns as something small to look at; the data is not trusted."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from composer_dataagent.report.wording import short

log = logging.getLogger(__name__)

LONGER_SIDE = 96
TEXT_LENGTH = 200
# Of token ids, which tell little: that a sample is there, and which ones begin alike.
NUMBERS = 16
# Larger pictures are refused unseen: a few bytes can claim to be gigapixels.
MAX_PIXELS = 1 << 26
MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
# Shorter sides are coordinates or boxes, shorter vectors are features: neither is a picture.
MIN_SIDE = 4
MIN_SQUARE = 36


class Thumbnail(TypedDict):
    """What can be shown of a sample: an encoded picture, or text, or neither."""

    png: bytes | None
    text: str | None


def make_thumbnail(columns: Mapping[str, Any]) -> Thumbnail:
    """The first of a sample's columns that can be shown.

    In this order: a picture (PIL image; array ``[H, W]``, ``[H, W, C]`` or ``[C, H, W]`` with 1, 3
    or 4 channels; bytes of a JPEG or PNG), text, a vector whose length is a square number
    (flattened pictures such as 64 values), the first few of a vector of integers (token ids).
    Pictures are scaled to at most 96 pixels, tiny ones enlarged by a whole factor, and encoded
    anew. Whatever cannot be decoded counts as absent.

    Args:
        columns (Mapping[str, Any]): Column name to value, as streaming decodes it.

    Returns:
        Thumbnail: The picture or the text, or neither.
    """
    values = list(columns.values())
    for value in values:
        picture = _encode(value)
        if picture is not None:
            return {"png": picture, "text": None}
    for value in values:
        if isinstance(value, str) and value.strip():
            return {"png": None, "text": short(value[: 20 * TEXT_LENGTH], TEXT_LENGTH)}
    for value in values:
        if _is_flat_square(value):
            side = math.isqrt(len(value))
            return {"png": _encode(value.reshape(side, side)), "text": None}
    for value in values:
        if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu":
            more = ["…"] if len(value) > NUMBERS else []
            return {"png": None, "text": " ".join([*map(str, value[:NUMBERS]), *more]) or None}
    return {"png": None, "text": None}


def _is_flat_square(value: Any) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.ndim == 1
        # Vectors of integers are token ids.
        and (value.dtype == np.uint8 or value.dtype.kind == "f")
        and value.size >= MIN_SQUARE
        and math.isqrt(value.size) ** 2 == value.size
    )


def _encode(value: Any) -> bytes | None:
    try:
        image = _picture(value)
        if image is None:
            return None
        buffer = io.BytesIO()
        _scale(image).save(buffer, "PNG")
        return buffer.getvalue()
    except Exception as error:
        # Foreign bytes make decoders raise anything; a picture is not worth a training run.
        log.debug("A sample cannot be shown as a picture: %s", error)
        return None


def _picture(value: Any) -> Image.Image | None:
    if isinstance(value, bytes | bytearray) and value.startswith(MAGIC):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # see MAX_PIXELS
            value = Image.open(io.BytesIO(value), formats=("JPEG", "PNG"))
    if isinstance(value, Image.Image):
        return _plain(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "buif":
        return _from_array(value)
    return None


def _plain(image: Image.Image) -> Image.Image | None:
    """``image`` as grey, RGB or RGBA."""
    if not 0 < image.width * image.height <= MAX_PIXELS:
        return None
    # A JPEG is decoded at reduced size where that is enough.
    image.draft(None, (4 * LONGER_SIDE, 4 * LONGER_SIDE))
    if image.mode in ("L", "RGB", "RGBA"):
        return image
    if image.mode.startswith(("I", "F")):
        return _from_array(np.asarray(image))
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGBA" if image.mode in ("P", "PA", "LA", "La", "RGBa") else "RGB")


def _from_array(array: NDArray) -> Image.Image | None:
    """An array of numbers as a picture, or None if its shape is not a picture's."""
    if array.ndim == 3:
        if array.shape[2] not in (1, 3, 4):
            array = array.transpose(1, 2, 0)
        if array.shape[2] not in (1, 3, 4):
            return None
        if array.shape[2] == 1:
            array = array[:, :, 0]
    if array.ndim not in (2, 3) or min(array.shape[:2]) < MIN_SIDE:
        return None
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        return None
    step = max(1, max(array.shape[:2]) // (4 * LONGER_SIDE))
    return Image.fromarray(_to_bytes(array[::step, ::step]))


def _to_bytes(array: NDArray) -> NDArray[np.uint8]:
    """Values as 0..255: uint8 as it is, [0, 1] by 255, any other range stretched."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    values = array.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-9)
    return np.rint(255 * scaled).astype(np.uint8)


def _scale(image: Image.Image) -> Image.Image:
    longer = max(image.size)
    # A copy without the original's metadata.
    image = image.copy()
    image.info = {}
    if longer > LONGER_SIDE:
        image.thumbnail((LONGER_SIDE, LONGER_SIDE))
        return image
    factor = LONGER_SIDE // longer
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
