# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Images with a class, or a class for each pixel, as streaming datasets that a recipe can name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from streaming import StreamingDataset
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from composer_dataagent.recipes.errors import need_columns
from composer_dataagent.recipes.labels import IGNORED
from composer_dataagent.recipes.registry import Registry, snake_case, split_name

# What images pass through before they are normalised: all of torchvision's v2 transforms.
TRANSFORMS = Registry(
    "transform",
    {
        snake_case(cls): cls
        for cls in (getattr(v2, name) for name in dir(v2))
        if isinstance(cls, type) and issubclass(cls, v2.Transform) and cls is not v2.Transform
    },
)
# Modes of PIL that models are made for as they are; palettes, CMYK and the like become RGB.
_PLAIN_MODES = ("L", "RGB", "RGBA")
_GREY_MODES = ("1", "LA")


class Images(StreamingDataset):
    """Images from MDS shards, transformed and normalised, beside a label of some kind.

    A class of its own sets :attr:`columns` up by :meth:`read_as`.

    Attributes:
        columns (tuple[str, ...]): Names of the columns, the image's first.
    """

    def read_as(
        self,
        columns: Mapping[str, str],
        transforms: Sequence[str | Mapping[str, Any]],
        mean: Sequence[float] | float,
        std: Sequence[float] | float,
    ) -> None:
        """Set up how samples are read.

        Args:
            columns (Mapping[str, str]): What each column is for, and its name; the image's first.
            transforms (Sequence[str | Mapping]): ``{name: ..., **arguments}``, or the bare name,
                of torchvision's v2 transforms (``random_crop``, ``random_horizontal_flip``, ...),
                applied to the uint8 image.
            mean (Sequence[float] | float): Per channel, on the scale of 0 to 1.
            std (Sequence[float] | float): Per channel.

        Raises:
            ValueError: The shards lack a column.
        """
        need_columns(self.shards, **columns)
        self.columns = tuple(columns.values())
        self.transform = build_transforms(transforms)
        # (pixels / 255 - mean) / std, in two operations
        deviation = torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)
        self.scale = 1 / (255 * deviation)
        self.shift = -torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1) / deviation

    def normalised(self, pixels: Tensor) -> Tensor:
        """Uint8 ``[C, H, W]`` as the model wants it: float32."""
        return pixels * self.scale + self.shift


class ImageClassification(Images):
    """Images and class labels from MDS shards: ``(float32 [C, H, W], int)``.

    Args:
        image (str): Column of the image: any of streaming's image or array encodings, ``[H, W]`` or
            ``[H, W, C]`` uint8. Images of palettes, CMYK and the like become RGB. Default:
            ``image``.
        label (str): Column of the class label, an integer. Default: ``label``.
        transforms (Sequence[str | Mapping]): See :meth:`Images.read_as`.
        mean (Sequence[float] | float): Likewise. Default: ``0.5``.
        std (Sequence[float] | float): Likewise. Default: ``0.5``.
        **streaming (Any): Arguments of ``streaming.StreamingDataset``.
    """

    def __init__(
        self,
        *,
        image: str = "image",
        label: str = "label",
        transforms: Sequence[str | Mapping[str, Any]] = (),
        mean: Sequence[float] | float = 0.5,
        std: Sequence[float] | float = 0.5,
        **streaming: Any,
    ) -> None:
        super().__init__(**streaming)
        self.read_as({"image": image, "label": label}, transforms, mean, std)

    def get_item(self, sample_id: int, retry: int = 7) -> tuple[Tensor, int]:
        """The sample as the model wants it."""
        sample = super().get_item(sample_id, retry)
        image, label = (sample[column] for column in self.columns)
        pixels = _pixels(image)
        if self.transform is not None:
            pixels = self.transform(pixels)
        return self.normalised(pixels), int(label)


class ImageSegmentation(Images):
    """Images and a class for each pixel: ``(float32 [C, H, W], int64 [H, W])``.

    Pixels that are not to be learned have the label -100, as torch's cross entropy takes it; so
    have those that a transform adds at the borders.

    Args:
        image (str): Column of the image, as of :class:`ImageClassification`. Default: ``image``.
        mask (str): Column of the classes: an image of one channel or of a palette, or an array
            ``[H, W]`` of integers. Default: ``mask``.
        reduce_labels (bool): Whether 0 is no class but everything else, and classes count from 1,
            as in ADE20K. Default: ``False``.
        ignore (int): Value of the mask where nothing is to be learned. Default: ``255``.
        transforms (Sequence[str | Mapping]): See :meth:`Images.read_as`. Those that move
            pixels (crops, flips, sizes) are applied to the mask, too, and have to end in one size
            for all images.
        mean (Sequence[float] | float): Likewise. Default: ``0.5``.
        std (Sequence[float] | float): Likewise. Default: ``0.5``.
        **streaming (Any): Arguments of ``streaming.StreamingDataset``.
    """

    def __init__(
        self,
        *,
        image: str = "image",
        mask: str = "mask",
        reduce_labels: bool = False,
        ignore: int = 255,
        transforms: Sequence[str | Mapping[str, Any]] = (),
        mean: Sequence[float] | float = 0.5,
        std: Sequence[float] | float = 0.5,
        **streaming: Any,
    ) -> None:
        super().__init__(**streaming)
        transforms = [_filling_images(step) for step in transforms]
        self.read_as({"image": image, "mask": mask}, transforms, mean, std)
        self.reduce_labels = reduce_labels
        self.ignore = ignore

    def get_item(self, sample_id: int, retry: int = 7) -> tuple[Tensor, Tensor]:
        """The sample as the model wants it."""
        sample = super().get_item(sample_id, retry)
        image, mask = (sample[column] for column in self.columns)
        pixels, classes = tv_tensors.Image(_pixels(image)), self._from_one(np.array(mask))
        if classes.shape != pixels.shape[1:]:
            raise ValueError(
                f"The mask of sample {sample_id} is {list(classes.shape)}, and its image "
                f"{list(pixels.shape[1:])}: a mask has a class for each pixel"
            )
        if self.transform is not None:
            pixels, classes = self.transform(pixels, tv_tensors.Mask(classes))
        labels = classes.as_subclass(Tensor).long() - 1
        labels[labels < 0] = IGNORED
        return self.normalised(pixels.as_subclass(Tensor)), labels

    def _from_one(self, mask: np.ndarray) -> Tensor:
        """Classes from 1, and 0 for none: what transforms fill borders with."""
        classes = mask.astype(np.int32)
        ignored = classes == self.ignore
        if not self.reduce_labels:
            classes += 1
        classes[ignored] = 0
        return torch.from_numpy(classes)


def build_transforms(transforms: Sequence[str | Mapping[str, Any]]) -> v2.Compose | None:
    """What images pass through, one after the other; None for nothing.

    Args:
        transforms (Sequence[str | Mapping]): See :meth:`Images.read_as`.

    Raises:
        RecipeError: There is no such transform, or it refuses an argument.
    """
    steps = [
        TRANSFORMS.build(f"transforms.{i}", *split_name(f"transforms.{i}", step))
        for i, step in enumerate(transforms)
    ]
    return v2.Compose(steps) if steps else None


def _filling_images(step: Any) -> Any:
    """A transform whose ``fill`` is a colour of images: in masks it would be a class."""
    if not isinstance(step, Mapping) or isinstance(step.get("fill"), Mapping | None):
        return step
    return {**step, "fill": {tv_tensors.Image: step["fill"], "others": 0}}


def _pixels(image: Any) -> Tensor:
    """``[C, H, W]`` uint8, of a PIL image or an array ``[H, W]`` or ``[H, W, C]``."""
    if isinstance(image, Image.Image) and image.mode.startswith("I;16"):
        image = (np.asarray(image) >> 8).astype(np.uint8)  # brightness of 16 bits
    elif isinstance(image, Image.Image) and not image.mode.startswith(("I", "F", *_PLAIN_MODES)):
        image = image.convert("L" if image.mode in _GREY_MODES else "RGB")
    pixels = torch.from_numpy(np.array(image))
    if pixels.dtype != torch.uint8:
        raise ValueError(f"An image's pixels are {pixels.dtype}, and not of 8 bits, from 0 to 255")
    return pixels[None] if pixels.dim() == 2 else pixels.movedim(-1, 0)
