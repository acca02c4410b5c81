"""Random changes of scenes with a class for each pixel: crops at random scales, and changes of light and colour.

The values are mmsegmentation's for ADE20K, which the paper used (Woo et al. 2023, appendix D.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from convnextv2.data.transforms.geometry import CropResize
from convnextv2.data.transforms.pixel_format import to_float, to_format
from convnextv2.data.transforms.transform import AnnotatedImage, DrawnTransform, Operation, Target
from convnextv2.records import Preprocessing

_LONGEST = 4
"""The longer side counts as at most so many times the shorter one when an image is scaled, as 2048 by 512."""

_PLACES = 10
"""How often another place is looked for if one class fills a crop."""


def scale_to(source: tuple[int, int], base: int) -> float:
    """Return the factor that brings an image, (height, width), to `base` pixels on its shorter side; 1 for base 0.

    The longer side then has at most four times as many.
    """
    return min(base / min(source), _LONGEST * base / max(source)) if base else 1.0


@dataclass(frozen=True)
class CropResizePad(CropResize):
    """`CropResize`, then filled up at the bottom and the right.

    padded: height and width of the result. Uncovered pixels are missing: NaN in float images, the mean colour of
    pictures else; in masks the class for what a move uncovers.
    """

    padded: tuple[int, int] = field(kw_only=True)

    def on_image(self, image: Tensor) -> Tensor:
        found = super().on_image(image)
        if found.is_floating_point():
            return F.pad(found, self._beyond(), value=torch.nan)
        mean = torch.tensor(Preprocessing.for_channels(len(image)).mean if len(image) in (1, 3) else 0.5)
        fill = to_format(mean * torch.iinfo(found.dtype).max, found.dtype).expand(len(image))
        canvas = fill[:, None, None].repeat(1, *self.padded)
        canvas[:, : self.size[0], : self.size[1]] = found
        return canvas

    def on_mask(self, mask: Tensor, fill: int = 0) -> Tensor:
        return F.pad(super().on_mask(mask, fill), self._beyond(), value=fill)

    def _beyond(self) -> tuple[int, int, int, int]:
        return 0, self.padded[1] - self.size[1], 0, self.padded[0] - self.size[0]


class ScaleJitterCrop(DrawnTransform[CropResizePad]):
    """A crop of a fixed size from the image at a random scale, mirrored half of the time.

    The image is scaled so that its shorter side is `base` times a factor (or its longer one four times that, if it is
    longer), and a part of `size` pixels on a side is cut out; what it lacks at the bottom and the right is filled up.
    Of an `AnnotatedImage` with a mask another place is looked for, ten times, while one class fills too much of it.

    Draws from torch's global generator and from nothing else.

    Args:
        size: pixels on a side of the result.
        base: pixels on the shorter side of an image at factor 1; None for `size`, 0 for those that it has.
        scale: smallest and largest factor.
        flip: whether to mirror left and right with probability 1/2.
        most_of_a_class: largest share of a class among the pixels of a crop that have one, 0 to 1.
        ignore: the class of pixels that have none.
        format: of the result; None for that of the image.
    """

    def __init__(
        self,
        size: int,
        *,
        base: int | None = None,
        scale: tuple[float, float] = (0.5, 2.0),
        flip: bool = True,
        most_of_a_class: float = 0.75,
        ignore: int = 255,
        format: torch.dtype | None = None,
    ) -> None:
        self.size, self.scale, self.flip, self.format = size, scale, flip, format
        self.base = size if base is None else base
        self.most_of_a_class, self.ignore = most_of_a_class, ignore

    def draw(self, image: Tensor) -> CropResizePad:
        """Draw scale, place and mirroring for an image, (C, H, W)."""
        low, high = self.scale
        factor = float(torch.rand(()) * (high - low) + low)
        flip = self.flip and bool(torch.rand(()) < 0.5)
        return self._at_a_place((image.shape[-2], image.shape[-1]), factor, flip)

    def __call__(self, target: Target) -> Target:
        """Draw and apply: an image, (C, H, W), or an `AnnotatedImage`, whose mask decides where."""
        if isinstance(target, Tensor) or target.mask is None:
            return super().__call__(target)
        drawn = self.draw(target.image)
        for _ in range(_PLACES):
            if self._is_mixed(target, drawn):
                break
            drawn = self._elsewhere(drawn)
        return self.apply(drawn, target)

    def _at_a_place(self, source: tuple[int, int], factor: float, flip: bool) -> CropResizePad:
        height, width = source
        factor *= scale_to(source, self.base)
        scaled = max(1, round(height * factor)), max(1, round(width * factor))
        size = min(self.size, scaled[0]), min(self.size, scaled[1])
        part = max(1, round(size[0] * height / scaled[0])), max(1, round(size[1] * width / scaled[1]))
        drawn = CropResizePad(
            source, 0, 0, *part, size=size, flip=flip, padded=(self.size, self.size), format=self.format
        )
        return self._elsewhere(drawn)

    def _elsewhere(self, drawn: CropResizePad) -> CropResizePad:
        """The same at another place."""
        top, left = (
            int(torch.randint(whole - part + 1, ()))
            for whole, part in zip(drawn.source, (drawn.height, drawn.width), strict=True)
        )
        return replace(drawn, top=top, left=left)

    def _is_mixed(self, target: AnnotatedImage, drawn: CropResizePad) -> bool:
        assert target.mask is not None
        part = target.mask[drawn.top : drawn.top + drawn.height, drawn.left : drawn.left + drawn.width]
        counts = part[part != self.ignore].unique(return_counts=True)[1]
        return len(counts) > 1 and float(counts.max() / counts.sum()) < self.most_of_a_class


@dataclass(frozen=True)
class Distortion(Operation):
    """Changes of light and colour of a picture, uint8 (3, H, W), or (1, H, W), which has no colour to change.

    brightness: added, in 0..255.  contrast: factor.  contrast_last: after colour, and not before.
    saturation: factor.  hue: turned by so much of the circle, -1 to 1.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    contrast_last: bool = False
    saturation: float = 1.0
    hue: float = 0.0

    def on_image(self, image: Tensor) -> Tensor:
        x = (to_float(image) + self.brightness).clamp(0, 255)
        x = x if self.contrast_last else (x * self.contrast).clamp(0, 255)
        if len(image) == 3 and (self.saturation != 1 or self.hue != 0):
            x = _changed_colours(x, self.saturation, self.hue)
        x = (x * self.contrast).clamp(0, 255) if self.contrast_last else x
        return to_format(x, image.dtype)


def _changed_colours(image: Tensor, saturation: float, hue: float) -> Tensor:
    """Scale the saturation and turn the hue of an RGB image (3, H, W), 0 to 255, in HSV."""
    value, low = image.amax(0), image.amin(0)
    span = value - low
    red, green, blue = image
    from_blue = torch.where(value == green, 2 + (blue - red) / span, 4 + (red - green) / span)
    wheel = torch.where(value == red, (green - blue) / span, from_blue)
    wheel = torch.where(span > 0, wheel, 0) + 6 * hue
    chroma = value * (torch.where(value > 0, span / value, 0) * saturation).clamp(max=1)
    offsets = torch.tensor([5.0, 3.0, 1.0]).view(3, 1, 1)
    k = (offsets + wheel) % 6
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


class PhotometricDistortion(DrawnTransform[Distortion]):
    """Brightness, contrast, saturation and hue of a picture, each changed half of the time.

    Draws from torch's global generator and from nothing else.

    Args:
        brightness: largest change, in 0..255.
        contrast, saturation: smallest and largest factor.
        hue: largest turn, as a share of the circle.
    """

    def __init__(
        self,
        *,
        brightness: float = 32.0,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: float = 0.1,
    ) -> None:
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def draw(self, image: Tensor) -> Distortion:
        """Draw the changes of an image, uint8 (3, H, W) or (1, H, W). Raises ValueError for others."""
        if image.dtype != torch.uint8 or len(image) not in (1, 3):
            raise ValueError(f"changes of colours are for uint8 of 1 or 3 channels, not {image.dtype} of {len(image)}")
        chance, amount = torch.rand(5), torch.rand(4)

        def drawn(number: int, low: float, high: float, neutral: float) -> float:
            return float(low + (high - low) * amount[number]) if chance[number] < 0.5 else neutral

        return Distortion(
            brightness=drawn(0, -self.brightness, self.brightness, 0.0),
            contrast=drawn(1, *self.contrast, 1.0),
            saturation=drawn(2, *self.saturation, 1.0),
            hue=drawn(3, -self.hue, self.hue, 0.0),
            contrast_last=bool(chance[4] < 0.5),
        )
