# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""An image as a shard keeps it: its own bytes where a recipe can read them, else encoded anew."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

# What is kept as it is (MPO: JPEGs of phones, and another picture behind). Others become PNG,
# which loses nothing but what is beyond 8 bits.
_FORMATS = {"JPEG", "MPO", "PNG", "WEBP"}
# Grey and colour. Others become one of these: what is transparent, or in inks, fits no model.
_MODES = {"L", "RGB"}
_GREY = ("1", "I", "F", "LA", "La")


@dataclass(frozen=True)
class Stored:
    """An image that was decoded to its last pixel.

    Attributes:
        data (bytes): A JPEG, PNG or WebP.
        mode (str): ``L`` or ``RGB``.
        width (int): In pixels.
        height (int): In pixels.
        kept (bool): Whether ``data`` is what was given.
    """

    data: bytes
    mode: str
    width: int
    height: int
    kept: bool


def stored_image(
    image: bytes | Image.Image, mode: str | None, resize: int | None, quality: int
) -> Stored:
    """Make an image what a recipe's ``image_classification`` can read.

    Args:
        image (bytes | Image.Image): As a file has it, or decoded.
        mode (str | None): ``L`` or ``RGB``, what all images become; None: either stays as it is.
        resize (int | None): A shorter side that is longer than this is scaled down to it.
        quality (int): Of JPEGs that have to be encoded anew, 1 to 100.

    Returns:
        Stored: The bytes that were given, if it is of such a mode and of a usual format, and not to
        be scaled. An orientation in its metadata is not heeded, as torchvision does not heed it.

    Raises:
        Exception: Whatever Pillow makes of an image that is broken.
    """
    data = image if isinstance(image, bytes) else None
    pixels = image if isinstance(image, Image.Image) else Image.open(io.BytesIO(image))
    source = pixels.format
    pixels.load()
    scaled = resize is not None and min(pixels.size) > resize
    modes = _MODES if mode is None else {mode}
    if data is not None and source in _FORMATS and pixels.mode in modes and not scaled:
        return Stored(data, pixels.mode, *pixels.size, kept=True)
    pixels = _plain(pixels).convert(mode)
    if scaled and resize is not None:
        factor = resize / min(pixels.size)
        width, height = (max(1, round(side * factor)) for side in pixels.size)
        pixels = pixels.resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    if source in ("JPEG", "MPO"):
        pixels.save(buffer, "JPEG", quality=quality)
    else:
        pixels.save(buffer, "PNG")
    return Stored(buffer.getvalue(), pixels.mode, *pixels.size, kept=False)


def _plain(image: Image.Image) -> Image.Image:
    """Grey or RGB, without metadata; of what is transparent, the colours."""
    if image.mode.startswith(("I", "F")):
        numbers = np.asarray(image)
        if numbers.dtype.kind == "f" or numbers.min() < 0 or numbers.max() > 0xFFFF:
            raise ValueError(f"its pixels are {numbers.dtype}, not brightness of 8 or 16 bits")
        # By the format, not by the image: a dark one of 16 bits is dark.
        has_16_bits = image.mode.startswith("I;16") or numbers.max() > 0xFF
        image = Image.fromarray((numbers >> 8 if has_16_bits else numbers).astype("uint8"))
    elif image.mode not in _MODES:
        image = image.convert("L" if image.mode in _GREY else "RGB")
    image = image.copy()
    image.info = {}
    return image
