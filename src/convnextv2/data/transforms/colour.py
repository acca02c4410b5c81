"""What the pixels look like: the model's input scale, and the random changes of training."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from convnextv2.records import Preprocessing

_BILINEAR = v2.InterpolationMode.BILINEAR


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 (..., C, H, W) to the model's float32 input."""
    mean, std = _statistics(preprocessing, images.device)
    return (images.float() / 255 - mean) / std


def to_bytes(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The model's input (..., C, H, W) back to uint8: rounded, and clipped to 0 to 255."""
    mean, std = _statistics(preprocessing, images.device)
    return ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


class RandAugment:
    """A few random operations on a picture (Cubuk et al. 2020) as ConvNeXt uses them: timm's "rand-m9-mstd0.5-inc1".

    Each operation is drawn with equal chances out of 15, and carried out with `probability`, at a strength
    drawn from a normal distribution around `magnitude` and clipped to 0 to 10, where 10 is the operation's
    full range; what has a direction goes either way. Draws from torch's global generator and from nothing else.

    Operations and ranges are timm's, but for two things: rotation, shear and translation interpolate
    bilinearly, not bicubically; and posterize leaves one bit at full range, where timm leaves a black picture.

    Args:
        magnitude: mean strength, 0 to 10.
        std: standard deviation of the strength; 0 for always the same.
        operations: how many are drawn, one after the other; the same may come twice.
        probability: of each drawn operation to be carried out, 0 to 1.
    """

    def __init__(
        self, magnitude: float = 9.0, *, std: float = 0.5, operations: int = 2, probability: float = 0.5
    ) -> None:
        self.magnitude = magnitude
        self.std = std
        self.operations = operations
        self.probability = probability

    def __call__(self, image: Tensor) -> Tensor:
        """uint8 (C, H, W) to uint8 (C, H, W), C is 1 or 3; the very tensor given where nothing is carried out."""
        for number in torch.randint(len(_OPERATIONS), (self.operations,)).tolist():
            if torch.rand(()) < self.probability:
                level = torch.normal(self.magnitude, self.std, ()).clamp(0, 10).item() / 10
                image = _OPERATIONS[number](image, level if torch.rand(()) < 0.5 else -level)
        return image


class RandomErase:
    """One rectangle of the picture replaced by noise (Zhong et al. 2020; timm's "pixel" mode).

    The noise is standard normal after `normalise`, but for what a pixel cannot hold: that is clipped, at about
    two standard deviations. Draws from torch's global generator and from nothing else.

    Args:
        probability: of a picture to lose a rectangle, 0 to 1.
        preprocessing: statistics of the noise, one value a channel of the pictures.
        scale: smallest and largest share of the picture's area.
        ratio: smallest and largest height divided by width. A rectangle that would not fit is drawn anew, up to
            ten times; then the picture stays whole.
    """

    def __init__(
        self,
        probability: float,
        preprocessing: Preprocessing,
        *,
        scale: tuple[float, float] = (0.02, 1 / 3),
        ratio: tuple[float, float] = (0.3, 1 / 0.3),
    ) -> None:
        self.probability = probability
        self._preprocessing = preprocessing
        self._place = v2.RandomErasing(p=1, scale=scale, ratio=ratio, value="random")  # pyright: ignore[reportArgumentType]

    def __call__(self, image: Tensor) -> Tensor:
        """uint8 (C, H, W) to uint8 (C, H, W); the very tensor given where nothing is erased."""
        if torch.rand(()) >= self.probability:
            return image
        place = self._place.make_params([image])
        noise = place.pop("v")
        if noise is None:
            return image
        return F.erase(image, **place, v=to_bytes(noise, self._preprocessing))


def _statistics(preprocessing: Preprocessing, device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(v, device=device).view(-1, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    return mean, std


def _move(
    image: Tensor, *, degrees: float = 0, shift: tuple[float, float] = (0, 0), slope: tuple[float, float] = (0, 0)
) -> Tensor:
    """The picture rotated about its middle, shifted right and down in pixels, or sheared from its upper left corner.

    slope: pixels across, and down, for each pixel along the other axis. What is not covered gets the mean colour:
    brought to zero before and back afterwards, it fades into the picture at the edge.
    """
    mean = torch.tensor(Preprocessing.for_channels(len(image)).mean).mul(255).round().view(-1, 1, 1)
    shear = [math.degrees(math.atan(s)) for s in slope]
    corner = [0.0, 0.0] if any(slope) else None
    moved = F.affine(image - mean, degrees, list(shift), 1.0, shear, _BILINEAR, center=corner)
    return (moved + mean).round().to(torch.uint8)


def _solarize(image: Tensor, level: float) -> Tensor:
    threshold = 256 - int(256 * abs(level))
    return image if threshold > 255 else F.solarize(image, threshold)


def _solarize_add(image: Tensor, level: float) -> Tensor:
    return torch.where(image < 128, image + int(110 * abs(level)), image)


_OPERATIONS: tuple[Callable[[Tensor, float], Tensor], ...] = (
    lambda image, level: _move(image, degrees=30 * level),
    lambda image, level: _move(image, shift=(0.45 * level * image.shape[2], 0)),
    lambda image, level: _move(image, shift=(0, 0.45 * level * image.shape[1])),
    lambda image, level: _move(image, slope=(0.3 * level, 0)),
    lambda image, level: _move(image, slope=(0, 0.3 * level)),
    lambda image, level: F.adjust_brightness(image, 1 + 0.9 * level),
    lambda image, level: F.adjust_saturation(image, 1 + 0.9 * level),
    lambda image, level: F.adjust_contrast(image, 1 + 0.9 * level),
    lambda image, level: F.adjust_sharpness(image, 1 + 0.9 * level),
    lambda image, level: F.posterize(image, max(1, 4 - int(4 * abs(level)))),
    _solarize,
    _solarize_add,
    lambda image, _: F.autocontrast(image),
    lambda image, _: F.equalize(image),
    lambda image, _: F.invert(image),
)
"""From a picture and a level of -1 to 1, where 1 is the full range; what has no direction takes the level's size."""
