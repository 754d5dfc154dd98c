# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every kind of stored column becomes something small to look at, or nothing; never an error."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_rows import write_rows

from composer_dataagent.report import read_run
from composer_dataagent.report.thumbnails import make_thumbnail


def gradient(height: int, width: int) -> np.ndarray:
    return np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def decode(png: bytes | None) -> Image.Image:
    assert png is not None
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.format == "PNG"
    return image


RGB = Image.fromarray(np.stack([gradient(40, 60)] * 3, axis=2))
GREY = gradient(28, 28)


@pytest.mark.parametrize(
    ("value", "size", "mode"),
    [
        (RGB, (60, 40), "RGB"),
        (RGB.convert("P"), (60, 40), "RGBA"),
        (RGB.convert("RGBA"), (60, 40), "RGBA"),
        (RGB.convert("CMYK"), (60, 40), "RGB"),
        (RGB.convert("1"), (60, 40), "L"),
        (RGB.convert("F"), (60, 40), "L"),
        (RGB.convert("I"), (60, 40), "L"),
        (RGB.resize((600, 300)), (96, 48), "RGB"),
        (encoded(RGB, "JPEG"), (60, 40), "RGB"),
        (encoded(RGB, "PNG"), (60, 40), "RGB"),
        (encoded(RGB.resize((3000, 2000)), "JPEG"), (96, 64), "RGB"),
        (GREY, (84, 84), "L"),
        (GREY.astype(np.float32) / 255, (84, 84), "L"),
        (GREY.astype(np.uint16), (84, 84), "L"),
        (GREY > 100, (84, 84), "L"),
        (GREY[:, :, None], (84, 84), "L"),
        (np.stack([GREY] * 3, axis=2), (84, 84), "RGB"),
        (np.stack([GREY] * 4, axis=2), (84, 84), "RGBA"),
        (np.stack([GREY] * 3, axis=0), (84, 84), "RGB"),
        (GREY[None], (84, 84), "L"),
        (np.random.default_rng(0).normal(size=(3, 224, 224)).astype(np.float16), (96, 96), "RGB"),
        (np.zeros((5000, 50)), None, "L"),
        (gradient(8, 8), (96, 96), "L"),
        (gradient(8, 8).reshape(64) / np.float32(255), (96, 96), "L"),
    ],
)
def test_pictures(value: Any, size: tuple[int, int] | None, mode: str) -> None:
    thumbnail = make_thumbnail({"label": 3, "x": value})
    image = decode(thumbnail["png"])
    assert thumbnail["text"] is None
    assert image.mode == mode and max(image.size) <= 96
    assert size is None or image.size == size


def test_tiny_pictures_are_enlarged_pixel_by_pixel() -> None:
    pixels = gradient(8, 8)
    image = np.asarray(decode(make_thumbnail({"x": pixels})["png"]))
    np.testing.assert_array_equal(image, np.kron(pixels, np.ones((12, 12), np.uint8)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 0.25, 1.0], [0, 128, 64, 255]),
        ([0.0, 0.5, 0.25, 0.5], [0, 128, 64, 128]),  # within [0, 1]: not stretched
        ([-1.0, 0.0, 1.0, np.nan], [0, 128, 255, 0]),
        ([0.0, 8.0, 16.0, np.inf], [0, 128, 255, 255]),
        ([7.0, 7.0, 7.0, 7.0], [0, 0, 0, 0]),
    ],
)
def test_the_range_of_floats(values: list[float], expected: list[int]) -> None:
    image = np.asarray(decode(make_thumbnail({"x": np.tile(values, (4, 1))})["png"]))
    assert image[0, ::24].tolist() == expected


@pytest.mark.parametrize("order", [1, -1])
def test_a_picture_goes_before_text_and_text_before_a_vector(order: int) -> None:
    columns = {"vector": np.zeros(64, np.float32), "text": "a cat", "image": GREY}

    def thumbnail(*names: str) -> Any:
        return make_thumbnail({name: columns[name] for name in names[::order]})

    assert decode(thumbnail("vector", "text", "image")["png"]).size == (84, 84)
    assert thumbnail("vector", "text") == {"png": None, "text": "a cat"}
    assert decode(thumbnail("vector")["png"]).size == (96, 96)


def test_text_is_one_line_of_at_most_200_characters() -> None:
    text = make_thumbnail({"empty": " ", "text": "a\n b\x00" + "long " * 1_000_000})["text"]
    assert text is not None and len(text) == 200
    assert text.startswith("a b long long") and text.endswith("…")


def test_token_ids_are_their_first_few() -> None:
    tokens = np.arange(1000, 2024, dtype=np.uint16)
    text = make_thumbnail({"prompt": 3, "tokens": tokens})["text"]
    assert text == " ".join(map(str, range(1000, 1016))) + " …"
    assert make_thumbnail({"tokens": tokens[:2]})["text"] == "1000 1001"


def test_pictures_carry_no_metadata_of_the_original() -> None:
    buffer = io.BytesIO()
    RGB.save(buffer, "PNG", icc_profile=b"tracked", exif=b"Exif\x00\x00somewhere")
    png = make_thumbnail({"x": buffer.getvalue()})["png"]
    assert png is not None and b"tracked" not in png and b"somewhere" not in png
    assert decode(png).info == {}


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\x00"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "value",
    [
        bomb(9_000, 9_000),
        bomb(12_000, 12_000),
        bomb(100_000, 100_000),
        np.broadcast_to(np.uint8(0), (100_000, 100_000)),
        encoded(RGB, "PNG")[:80],
        encoded(RGB, "JPEG")[:200],
        b"\xff\xd8\xff",
        encoded(RGB, "GIF"),
        np.zeros(7),
        np.zeros(9),
        np.zeros(0, int),
        np.zeros((2, 3)),
        np.zeros((10, 10, 7)),
        np.zeros((0, 10)),
        np.zeros((2, 3, 4, 5)),
        np.zeros((8, 8), complex),
        np.array([["a", "b"]] * 8),
        Image.new("L", (0, 5)),
        7,
        None,
        {"a": 1},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_shown_is_left_out(value: Any) -> None:
    assert make_thumbnail({"x": value}) == {"png": None, "text": None}


def test_written_samples_are_read(tmp_path: Path) -> None:
    history = write_rows(tmp_path, 1)
    history.write_samples({7: {"x": GREY}})
    history.write_samples({3: {"x": GREY}, 12: {"t": "<b>dog</b>"}, 5: {"y": 1}})
    samples = read_run(tmp_path).samples
    assert samples.keys() == {3, 12, 5}
    assert decode(samples[3]["png"]).size == (84, 84)
    assert samples[12] == {"png": None, "text": "<b>dog</b>"}
    assert samples[5] == {"png": None, "text": None}
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["3.png"]
