"""Random changes of images of any bands: quarter turns; brightness, contrast, noise and absence of each band."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convnextv2.data.transforms.geometry import Geometry
from convnextv2.data.transforms.transform import DrawnTransform, Operation
from convnextv2.records import Preprocessing

_NOISE = 0.25
"""Largest deviation of the noise, as a share of the strength."""


@dataclass(frozen=True)
class Turn(Geometry):
    """The image turned by quarters, counter-clockwise.

    quarters: 0 to 3.
    """

    quarters: int

    def on_image(self, image: Tensor) -> Tensor:
        return torch.rot90(self._on_size(image), self.quarters, (-2, -1)).contiguous()

    def on_mask(self, mask: Tensor, fill: int = 0) -> Tensor:
        return torch.rot90(self._on_size(mask), self.quarters, (-2, -1)).contiguous()

    def on_boxes(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        height, width = self.source
        for _ in range(self.quarters):
            x0, y0, x1, y1 = boxes.unbind(1)
            boxes = torch.stack([y0, width - x1, y1, width - x0], 1)
            height, width = width, height
        return super().on_boxes(boxes)


class RandomTurn(DrawnTransform[Turn]):
    """A quarter turn, each of the four as likely: with mirroring, all eight ways in which a square can lie.

    Draws from torch's global generator and from nothing else.
    """

    def draw(self, image: Tensor) -> Turn:
        """Draw the turn of an image, (C, H, W)."""
        return Turn((image.shape[-2], image.shape[-1]), int(torch.randint(4, ())))


@dataclass(frozen=True)
class BandChange(Operation):
    """`(x - mean) * contrast + mean + shift`, and noise, on a float image (C, H, W); NaN stays NaN.

    mean, contrast, shift: (C, 1, 1).  noise: (C, H, W), or None.  kept: bool (C, 1, 1); the others become their mean.
    """

    mean: Tensor
    contrast: Tensor
    shift: Tensor
    noise: Tensor | None
    kept: Tensor

    def on_image(self, image: Tensor) -> Tensor:
        changed = (image - self.mean) * self.contrast + self.mean + self.shift
        if self.noise is not None:
            changed = changed + self.noise
        return torch.where(self.kept | image.isnan(), changed, self.mean)


class BandJitter(DrawnTransform[BandChange]):
    """Each band by itself: contrast and brightness, noise, and now and then the band's absence.

    Draws from torch's global generator and from nothing else.

    Args:
        preprocessing: mean and deviation of each band, in the numbers of the image.
        strength: contrast is 1 - strength to 1 + strength, brightness moves by up to strength standard deviations, and
            noise has up to a quarter of strength of them; 0 or more, below 1.
        dropout: probability of each band to become its mean, 0 to below 1; one band always stays.
    """

    def __init__(self, preprocessing: Preprocessing, strength: float, dropout: float = 0.0) -> None:
        self._mean, self._std = (torch.tensor(v).view(-1, 1, 1) for v in (preprocessing.mean, preprocessing.std))
        self.strength, self.dropout = strength, dropout

    def draw(self, image: Tensor) -> BandChange:
        """Draw the changes of a float image, (C, H, W)."""
        channels = len(image)
        contrast = 1 + self.strength * (2 * torch.rand(channels, 1, 1) - 1)
        shift = self._std * self.strength * (2 * torch.rand(channels, 1, 1) - 1)
        noise = None
        if self.strength:
            amount = _NOISE * self.strength * torch.rand(())
            noise = torch.randn(image.shape) * self._std * amount
        kept = torch.rand(channels, 1, 1) >= self.dropout
        kept[torch.randint(channels, ())] = True
        return BandChange(self._mean, contrast, shift, noise, kept)
