"""Pixel values: the model's input scale, and the random changes of training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from convnextv2.data.transforms.augment_operations import OPERATIONS, AugmentOperation
from convnextv2.data.transforms.pixel_format import to_format
from convnextv2.data.transforms.transform import DrawnTransform, Operation
from convnextv2.errors import UserError
from convnextv2.records import Preprocessing


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return pixels (..., C, H, W) as the model's float32 input, see `Preprocessing`; missing ones, NaN, as 0.

    Raises:
        ValueError: `preprocessing` is for another number of channels.
    """
    mean, std = _statistics(preprocessing, images)
    if preprocessing.bands is None:
        return (images.float() / 255 - mean) / std
    low, high = _each(preprocessing.limits, images)
    return ((images.float().clamp(low, high) - mean) / std).nan_to_num(0)


def existing(images: Tensor) -> Tensor | None:
    """Return which pixels exist, bool (..., H, W), of images (..., C, H, W) in which the others are NaN.

    None if all of them do: always for formats that have no NaN.
    """
    if not images.is_floating_point():
        return None
    missing = images.isnan().any(-3)
    return ~missing if missing.any() else None


def to_bytes(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return the model's input (..., C, H, W) as uint8: rounded, and clipped to 0 to 255.

    Bands are stretched as `Preprocessing.black_and_white` says.

    Raises:
        ValueError: `preprocessing` is for another number of channels.
    """
    mean, std = _statistics(preprocessing, images)
    low, high = _each(preprocessing.black_and_white, images)
    pixels = (images * std + mean) * preprocessing.scale
    return to_format((pixels - low) * (255 / (high - low)), torch.uint8)


@dataclass(frozen=True)
class Composed(Operation):
    """Operations one after the other; without any the image is unchanged."""

    steps: tuple[Operation, ...]

    def on_image(self, image: Tensor) -> Tensor:
        for step in self.steps:
            image = step.on_image(image)
        return image

    def on_mask(self, mask: Tensor, fill: int = 0) -> Tensor:
        for step in self.steps:
            mask = step.on_mask(mask, fill)
        return mask

    def on_boxes(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        boxes, kept = super().on_boxes(boxes)
        for step in self.steps:
            boxes, seen = step.on_boxes(boxes)
            kept = kept & seen
        return boxes, kept


class RandAugment(DrawnTransform[Composed]):
    """A few random operations on an image (Cubuk et al. 2020) as ConvNeXt uses them: timm's "rand-m9-mstd0.5-inc1".

    Each operation is drawn with equal chances out of the 15 of `augment_operations`, and carried out with
    `probability`, at a strength drawn from a normal distribution around `magnitude` and clipped to 0 to 10, where 10
    is the operation's full range; a change with a direction has a random sign. Draws from torch's global generator and
    from nothing else.

    Operations and ranges are timm's, but for two things: rotation, shear and translation interpolate
    bilinearly, not bicubically; and posterize leaves one bit at full range, where timm leaves a black image.

    uint8 images of 1 or 3 channels use all 15. Others draw, with equal chances, among those that accept them: 14 if
    uint8 of any other number of channels (not saturation), the 5 that move pixels in any other format. Masks and boxes
    follow those 5 and are unchanged by the rest.

    Args:
        magnitude: mean strength, 0 to 10.
        std: standard deviation of the strength; 0 for always the same.
        operations: how many are drawn, one after the other; one may be drawn twice.
        probability: of each drawn operation to be carried out, 0 to 1.
        fill: what rotation, shear and shift fill uncovered pixels with, one value per channel; see `Affine`.
    """

    def __init__(
        self,
        magnitude: float = 9.0,
        *,
        std: float = 0.5,
        operations: int = 2,
        probability: float = 0.5,
        fill: tuple[float, ...] | None = None,
    ) -> None:
        self.magnitude = magnitude
        self.std = std
        self.operations = operations
        self.probability = probability
        self.fill = fill

    def draw(self, image: Tensor) -> Composed:
        """Draw operations for an image, (C, H, W).

        Raises:
            UserError: no operation accepts the image's format.
        """
        usable = self.usable(image)
        size = (image.shape[-2], image.shape[-1])
        steps: list[Operation] = []
        for number in torch.randint(len(usable), (self.operations,)).tolist():
            if torch.rand(()) < self.probability:
                level = torch.normal(self.magnitude, self.std, ()).clamp(0, 10).item() / 10
                steps.append(usable[number].make(level if torch.rand(()) < 0.5 else -level, size, self.fill))
        return Composed(tuple(steps))

    @staticmethod
    def usable(image: Tensor) -> tuple[AugmentOperation, ...]:
        """Return the operations that accept an image, (C, H, W). Raises UserError if there are none."""
        usable = tuple(operation for operation in OPERATIONS if operation.accepts(image) is None)
        if not usable:
            raise UserError(f"RandAugment: {OPERATIONS[0].accepts(image)}; convert the images, or leave it out")
        return usable


@dataclass(frozen=True)
class Erasing(Operation):
    """One rectangle replaced.

    top, left: of its upper left corner, in pixels.  pixels: (C, height, width), in the image's format.
    """

    top: int
    left: int
    pixels: Tensor

    def on_image(self, image: Tensor) -> Tensor:
        height, width = self.pixels.shape[-2:]
        return F.erase(image, self.top, self.left, height, width, self.pixels)


class RandomErase(DrawnTransform[Erasing | Composed]):
    """One rectangle of the image replaced by noise (Zhong et al. 2020; timm's "pixel" mode).

    The noise is standard normal after `normalise`, clipped to the range of a pixel: in uint8 at about two
    standard deviations. Masks and boxes are unchanged. Draws from torch's global generator and from nothing else.

    Args:
        probability: of an image to lose a rectangle, 0 to 1.
        preprocessing: statistics of the noise, one value per channel of the images.
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest height divided by width. A rectangle that would not fit is drawn again, up to
            ten times; then the image is unchanged.
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

    def draw(self, image: Tensor) -> Erasing | Composed:
        """Draw a rectangle of an image, (C, H, W), and its noise; an empty `Composed` if nothing is erased.

        Raises:
            ValueError: the statistics are for another number of channels.
        """
        if torch.rand(()) >= self.probability:
            return Composed(())
        place = self._place.make_params([image])
        if place["v"] is None:
            return Composed(())
        return Erasing(place["i"], place["j"], _to_pixels(place["v"], self._preprocessing, image.dtype))


def _statistics(preprocessing: Preprocessing, images: Tensor) -> tuple[Tensor, Tensor]:
    if len(preprocessing.mean) != images.shape[-3]:
        raise ValueError(f"statistics of {len(preprocessing.mean)} channels for images of {images.shape[-3]}")
    mean, std = (torch.tensor(v, device=images.device).view(-1, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    return mean, std


def _each(limits: tuple[tuple[float, float], ...], images: Tensor) -> tuple[Tensor, Tensor]:
    """The lower and the upper limit of each channel, (C, 1, 1)."""
    lower, upper = (torch.tensor(values, device=images.device) for values in zip(*limits, strict=True))
    return lower.view(-1, 1, 1), upper.view(-1, 1, 1)


def _to_pixels(images: Tensor, preprocessing: Preprocessing, dtype: torch.dtype) -> Tensor:
    mean, std = _statistics(preprocessing, images)
    return to_format((images * std + mean) * preprocessing.scale, dtype)
