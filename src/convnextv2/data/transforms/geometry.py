"""Where the model looks: random crops for training, the centre for evaluation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

Resize = Literal["auto", "crop", "whole"]
"""How a picture becomes a square, see `CenterFit`."""

_BICUBIC = v2.InterpolationMode.BICUBIC
_LONGEST = 16
"""Pictures longer than this many times their width are cut before they are enlarged."""


class RandomResizedCropFlip:
    """A random part of the picture at a fixed size, mirrored half of the time.

    Draws from torch's global generator and from nothing else.

    Args:
        size: height and width of the result, in pixels; one number for a square.
        scale: smallest and largest share of the picture's area that is taken.
        ratio: smallest and largest width divided by height of the part taken.
        flip: whether to mirror left and right with probability 1/2.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        *,
        scale: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: bool = True,
    ) -> None:
        self.size = (size, size) if isinstance(size, int) else size
        self._crop = v2.RandomResizedCrop(self.size, scale=scale, ratio=ratio, interpolation=_BICUBIC, antialias=True)
        self._flip = flip

    def __call__(self, image: Tensor) -> Tensor:
        """uint8 (C, H, W) to contiguous uint8 (C, height, width)."""
        image = self._crop(image)
        if self._flip and torch.rand(()) < 0.5:
            image = F.horizontal_flip(image)
        return image.contiguous()


class CenterFit:
    """The middle of the picture at a fixed size, for evaluation and embedding. Nothing random.

    "crop" brings the shorter side to `int(size / crop_pct)` pixels and cuts out the centre; "whole"
    resizes the whole picture to the square without a cut. "auto" does as ConvNeXt V2 was evaluated:
    it crops below 384 pixels and where `crop_pct` is given, and else takes the whole.

    A picture more than 16 times as long as wide is first cut to its middle 16 to 1: enlarging
    all of a line of pixels would fill the memory.

    Args:
        size: height and width of the result, in pixels; one number for a square.
        crop_pct: share of each side that a crop keeps, above 0 and at most 1; None for 0.875.
        resize: which of the two.
    """

    def __init__(self, size: int | tuple[int, int], *, crop_pct: float | None = None, resize: Resize = "auto") -> None:
        self.size = (size, size) if isinstance(size, int) else size
        self.whole = resize == "whole" or (resize == "auto" and crop_pct is None and min(self.size) >= 384)
        self.crop_pct = 0.875 if crop_pct is None else crop_pct

    def __call__(self, image: Tensor) -> Tensor:
        """uint8 (C, H, W) to contiguous uint8 (C, height, width)."""
        if self.whole:
            return _resize(image, self.size).contiguous()
        height, width = image.shape[-2:]
        height, width = min(height, _LONGEST * width), min(width, _LONGEST * height)
        image = F.center_crop(image, [height, width])
        image = _resize(image, self._cover(height, width))
        return F.center_crop(image, list(self.size)).contiguous()

    def _cover(self, height: int, width: int) -> tuple[int, int]:
        """The smallest size of the same shape that covers `size / crop_pct`."""
        tall, wide = (int(side / self.crop_pct) for side in self.size)
        if tall * width >= wide * height:
            return tall, max(wide, tall * width // height)
        return max(tall, wide * height // width), wide


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.resize(image, list(size), interpolation=_BICUBIC, antialias=True)
