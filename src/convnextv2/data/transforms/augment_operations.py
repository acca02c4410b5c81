"""The fifteen operations that RandAugment draws from, each with the images that it accepts.

Five move pixels: they accept any number of channels and any format, and masks and boxes follow. Ten change
colours and are defined on 0 to 255, so they accept only uint8, and leave masks and boxes unchanged. Of those,
saturation needs RGB or grey; the others treat each channel by itself if there are other than 1 or 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from convnextv2.data.transforms.geometry import Affine
from convnextv2.data.transforms.pixel_format import FORMATS
from convnextv2.data.transforms.transform import Operation

Fill = tuple[float, ...] | None

ColourChange = Literal[
    "brightness",
    "saturation",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "solarize-add",
    "autocontrast",
    "equalize",
    "invert",
]


@dataclass(frozen=True)
class Colour(Operation):
    """One change of colours, on uint8 (C, H, W).

    level: -1 to 1, where 1 is the full range; a change without a direction uses its magnitude.
    """

    change: ColourChange
    level: float

    def on_image(self, image: Tensor) -> Tensor:
        change = _CHANGES[self.change]
        if len(image) in (1, 3):
            return change(image, self.level)
        return change(image[:, None], self.level)[:, 0]  # as a batch of grey images, one per channel


@dataclass(frozen=True)
class AugmentOperation:
    """An operation that RandAugment may draw.

    make: from a level of -1 to 1, the image's height and width, and the fill of `Affine`, to what is then applied.
    formats: the number formats that it accepts.
    channels: the numbers of channels that it accepts; None for all.
    """

    name: str
    make: Callable[[float, tuple[int, int], Fill], Operation]
    formats: tuple[torch.dtype, ...] = FORMATS
    channels: tuple[int, ...] | None = None

    def accepts(self, image: Tensor) -> str | None:
        """Return the reason why an image, (C, H, W), is not accepted; None if it is."""
        if image.dtype not in self.formats:
            return f"{self.name} takes {' '.join(str(f) for f in self.formats)}, not {image.dtype}"
        if self.channels is not None and len(image) not in self.channels:
            return f"{self.name} takes {' or '.join(map(str, self.channels))} channels, not {len(image)}"
        return None


def _solarize(image: Tensor, level: float) -> Tensor:
    threshold = 256 - int(256 * abs(level))
    return image if threshold > 255 else F.solarize(image, threshold)


def _solarize_add(image: Tensor, level: float) -> Tensor:
    return torch.where(image < 128, image + int(110 * abs(level)), image)


_CHANGES: dict[ColourChange, Callable[[Tensor, float], Tensor]] = {
    "brightness": lambda image, level: F.adjust_brightness(image, 1 + 0.9 * level),
    "saturation": lambda image, level: F.adjust_saturation(image, 1 + 0.9 * level),
    "contrast": lambda image, level: F.adjust_contrast(image, 1 + 0.9 * level),
    "sharpness": lambda image, level: F.adjust_sharpness(image, 1 + 0.9 * level),
    "posterize": lambda image, level: F.posterize(image, max(1, 4 - int(4 * abs(level)))),
    "solarize": _solarize,
    "solarize-add": _solarize_add,
    "autocontrast": lambda image, _: F.autocontrast(image),
    "equalize": lambda image, _: F.equalize(image),
    "invert": lambda image, _: F.invert(image),
}


def _colour(change: ColourChange, channels: tuple[int, ...] | None = None) -> AugmentOperation:
    return AugmentOperation(change, lambda level, size, fill: Colour(change, level), (torch.uint8,), channels)


OPERATIONS: tuple[AugmentOperation, ...] = (
    AugmentOperation("rotate", lambda level, size, fill: Affine(size, degrees=30 * level, fill=fill)),
    AugmentOperation("shift-x", lambda level, size, fill: Affine(size, shift=(0.45 * level * size[1], 0), fill=fill)),
    AugmentOperation("shift-y", lambda level, size, fill: Affine(size, shift=(0, 0.45 * level * size[0]), fill=fill)),
    AugmentOperation("shear-x", lambda level, size, fill: Affine(size, slope=(0.3 * level, 0), fill=fill)),
    AugmentOperation("shear-y", lambda level, size, fill: Affine(size, slope=(0, 0.3 * level), fill=fill)),
    _colour("brightness"),
    _colour("saturation", channels=(1, 3)),
    _colour("contrast"),
    _colour("sharpness"),
    _colour("posterize"),
    _colour("solarize"),
    _colour("solarize-add"),
    _colour("autocontrast"),
    _colour("equalize"),
    _colour("invert"),
)
"""In the order of the draws: RandAugment draws a number among those that accept the image."""
