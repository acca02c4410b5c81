"""Geometry: random crops for training, centre crops for evaluation, rotation, shear and shift.

Images are resized bicubically with antialiasing and moved bilinearly, in any of `pixel_format.FORMATS` and with any
number of channels: formats other than uint8 are computed in floats, rounded and clipped to what the format holds.
Masks take the nearest pixel, by pixel centres, so that they stay on the image to within half a pixel. Boxes are moved
exactly.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from convnextv2.data.transforms.pixel_format import to_float, to_format
from convnextv2.data.transforms.transform import DrawnTransform, Operation
from convnextv2.records import Preprocessing

Resize = Literal["auto", "crop", "whole"]
"""How an image becomes a square, see `CenterFit`."""

_Resizer = Callable[[Tensor, tuple[int, int]], Tensor]

_LONGEST = 16
"""Images longer than this many times their width are cut before they are enlarged."""


@dataclass(frozen=True)
class Geometry(Operation):
    """An operation that moves pixels, drawn for images of one size.

    source: height and width of the images, in pixels; other sizes raise ValueError.
    """

    source: tuple[int, int]

    def _on_size(self, target: Tensor) -> Tensor:
        if tuple(target.shape[-2:]) != self.source:
            raise ValueError(f"drawn for {self.source} pixels (height, width), applied to {tuple(target.shape)}")
        return target

    def _boxes(self, boxes: Tensor) -> BoundingBoxes:
        return BoundingBoxes(boxes, format=BoundingBoxFormat.XYXY, canvas_size=self.source)  # pyright: ignore[reportCallIssue]


@dataclass(frozen=True)
class _CutAndResize(Geometry):
    """A geometry of cuts, mirrors and one resizing.

    format: of the resulting image; None for that of the source. NaN stands for missing pixels, see `resize_existing`.
    """

    format: torch.dtype | None = field(default=None, kw_only=True)

    @abstractmethod
    def _move(self, target: Tensor, resize: _Resizer) -> Tensor:
        """Move whatever torchvision's functions take, resized by `resize`."""

    def on_image(self, image: Tensor) -> Tensor:
        return self._move(self._on_size(image), partial(_resize_image, dtype=self.format)).contiguous()

    def on_mask(self, mask: Tensor, fill: int = 0) -> Tensor:
        return self._move(self._on_size(mask), resize_mask).contiguous()

    def on_boxes(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        moved = self._move(self._boxes(boxes), lambda target, size: F.resize(target, list(size)))
        return super().on_boxes(moved.as_subclass(Tensor))


@dataclass(frozen=True)
class CropResize(_CutAndResize):
    """A rectangle cut out, brought to a size, and mirrored left and right if `flip`.

    top, left, height, width: the rectangle, in pixels of the source, inside it.  size: height and width of the result.
    """

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]
    flip: bool = False

    def _move(self, target: Tensor, resize: _Resizer) -> Tensor:
        target = resize(F.crop(target, self.top, self.left, self.height, self.width), self.size)
        return F.horizontal_flip(target) if self.flip else target


@dataclass(frozen=True)
class CenterCropResize(_CutAndResize):
    """The middle cut out, brought to a size, and the middle of that cut out again.

    cut, resized, size: height and width after the first cut, after resizing and of the result, in pixels.
    """

    cut: tuple[int, int]
    resized: tuple[int, int]
    size: tuple[int, int]

    def _move(self, target: Tensor, resize: _Resizer) -> Tensor:
        target = resize(F.center_crop(target, list(self.cut)), self.resized)
        return F.center_crop(target, list(self.size))


@dataclass(frozen=True)
class Affine(Geometry):
    """The image rotated about its middle, shifted, or sheared from its upper left corner, at its own size.

    degrees: of rotation, clockwise.  shift: right and down, in pixels.
    slope: pixels across, and down, for each pixel along the other axis.
    fill: one value per channel for uncovered pixels, in the image's own numbers. None for ImageNet's mean colour if
        the image is uint8, and else for each channel's own mean, as other formats have no agreed range.
    """

    degrees: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    slope: tuple[float, float] = (0.0, 0.0)
    fill: tuple[float, ...] | None = None

    def on_image(self, image: Tensor) -> Tensor:
        # Shifted to zero before and back afterwards, uncovered pixels fade into the image at the edge.
        values, mean = to_float(self._on_size(image)), self._fill(image)
        return to_format(self._affine(values - mean, v2.InterpolationMode.BILINEAR) + mean, image.dtype)

    def on_mask(self, mask: Tensor, fill: int = 0) -> Tensor:
        if mask.dtype != torch.bool and not torch.iinfo(mask.dtype).min <= fill <= torch.iinfo(mask.dtype).max:
            raise ValueError(f"a mask of {mask.dtype} cannot hold {fill}: give it as torch.uint8 or torch.int64")
        height, width = self.source
        layers = to_float(self._on_size(mask)).reshape(-1, height, width)
        moved = self._affine(layers, v2.InterpolationMode.NEAREST, fill=[float(fill)])
        return moved.to(mask.dtype).reshape(mask.shape)

    def on_boxes(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        return super().on_boxes(self._affine(self._boxes(boxes)).as_subclass(Tensor))

    def _affine(
        self,
        target: Tensor,
        interpolation: v2.InterpolationMode = v2.InterpolationMode.NEAREST,
        fill: list[float] | None = None,
    ) -> Tensor:
        shear = [math.degrees(math.atan(slope)) for slope in self.slope]
        corner = [0.0, 0.0] if any(self.slope) else None
        return F.affine(target, self.degrees, list(self.shift), 1.0, shear, interpolation, fill=fill, center=corner)

    def _fill(self, image: Tensor) -> Tensor:
        """The fill of uncovered pixels, (C, 1, 1), or (1, 1, 1) for all channels alike."""
        if self.fill is not None:
            return torch.tensor(self.fill, device=image.device).view(-1, 1, 1)
        if image.dtype != torch.uint8:
            return to_float(image).nanmean((1, 2), keepdim=True)
        mean = Preprocessing.for_channels(len(image)).mean
        return torch.tensor(mean, device=image.device).mul(255).round().view(-1, 1, 1)


class RandomResizedCropFlip(DrawnTransform[CropResize]):
    """A random part of the image at a fixed size, mirrored half of the time.

    Draws from torch's global generator and from nothing else.

    Args:
        size: height and width of the result, in pixels; one number for a square.
        scale: smallest and largest share of the image's area that is taken.
        ratio: smallest and largest width divided by height of the part taken.
        flip: whether to mirror left and right with probability 1/2.
        format: of the result; None for that of the image.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        *,
        scale: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: bool = True,
        format: torch.dtype | None = None,
    ) -> None:
        self.format = format
        self.size = (size, size) if isinstance(size, int) else size
        self._crop = v2.RandomResizedCrop(self.size, scale=scale, ratio=ratio)
        self._flip = flip

    def draw(self, image: Tensor) -> CropResize:
        """Draw a part of an image, (C, H, W), and whether to mirror it."""
        part = self._crop.make_params([image])
        flip = self._flip and bool(torch.rand(()) < 0.5)
        return CropResize(
            source=(image.shape[-2], image.shape[-1]), **part, size=self.size, flip=flip, format=self.format
        )


class CenterFit(DrawnTransform[CenterCropResize]):
    """The middle of the image at a fixed size, for evaluation and embedding. Nothing random.

    "crop" brings the shorter side to `int(size / crop_pct)` pixels and cuts out the centre; "whole"
    resizes the whole image to the square without a cut. "auto" follows the evaluation of ConvNeXt
    V2: it crops if the size is below 384 pixels or `crop_pct` is given, and else takes the whole.

    An image more than 16 times as long as wide is first cut to its middle 16 to 1: enlarging
    all of a line of pixels would fill the memory.

    Args:
        size: height and width of the result, in pixels; one number for a square.
        crop_pct: share of each side that a crop keeps, above 0 and at most 1; None for 0.875.
        resize: which of the two.
        format: of the result; None for that of the image.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        *,
        crop_pct: float | None = None,
        resize: Resize = "auto",
        format: torch.dtype | None = None,
    ) -> None:
        self.format = format
        self.size = (size, size) if isinstance(size, int) else size
        self.whole = resize == "whole" or (resize == "auto" and crop_pct is None and min(self.size) >= 384)
        self.crop_pct = 0.875 if crop_pct is None else crop_pct

    def draw(self, image: Tensor) -> CenterCropResize:
        """Return where the middle of an image, (C, H, W), lies; draws nothing."""
        source = height, width = (image.shape[-2], image.shape[-1])
        if self.whole:
            return CenterCropResize(source, cut=source, resized=self.size, size=self.size, format=self.format)
        height, width = min(height, _LONGEST * width), min(width, _LONGEST * height)
        cover = self._cover(height, width)
        return CenterCropResize(source, cut=(height, width), resized=cover, size=self.size, format=self.format)

    def _cover(self, height: int, width: int) -> tuple[int, int]:
        """The smallest size of the same shape that covers `size / crop_pct`."""
        tall, wide = (int(side / self.crop_pct) for side in self.size)
        if tall * width >= wide * height:
            return tall, max(wide, tall * width // height)
        return max(tall, wide * height // width), wide


def _resize_image(image: Tensor, size: tuple[int, int], dtype: torch.dtype | None = None) -> Tensor:
    dtype = dtype or image.dtype
    if tuple(image.shape[-2:]) == size:
        return image.to(dtype)
    if image.dtype == torch.uint8 == dtype:
        return F.resize(image, list(size), interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
    values = to_float(image)
    if image.is_floating_point() and values.isnan().any():
        return to_format(resize_existing(values, size), dtype)
    return to_format(F.resize(values, list(size), interpolation=v2.InterpolationMode.BICUBIC, antialias=True), dtype)


def resize_existing(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a float image (C, H, W) whose missing pixels are NaN; what they hide has no part in the result.

    Each pixel of the result is the weighted mean of the existing ones only, bicubic with antialiasing. It exists if at
    least half of the weight lies on existing pixels; else it is NaN in all channels.
    """
    there = ~image.isnan().any(-3, keepdim=True)
    count = there.sum().clamp(min=1)
    mean = torch.where(there, image, 0).sum((-2, -1), keepdim=True) / count  # so that little is lost to rounding
    parts = torch.cat([torch.where(there, image - mean, 0), there.to(image.dtype)], -3)
    resized = F.resize(parts, list(size), interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
    weight = resized[..., -1:, :, :]
    return torch.where(weight >= 0.5, resized[..., :-1, :, :] / weight + mean, torch.nan)


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize masks, integer or bool (..., H, W): the pixel whose centre is nearest.

    torchvision's own way for masks is half a pixel off.
    """
    layers = mask.reshape(-1, *mask.shape[-2:])
    values = layers if layers.dtype == torch.uint8 else to_float(layers)
    resized = F.resize(values, list(size), interpolation=v2.InterpolationMode.NEAREST_EXACT)
    return resized.to(mask.dtype).reshape(*mask.shape[:-2], *size)
