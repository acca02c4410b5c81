"""A segmenter over images of any size: whole, or window by window with blended overlap, at several scales, mirrored.

The memory that it takes does not grow with the image: scores come in bands of rows, and a window's logits are kept, at
the size that the model gives, only as long as a band needs them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnextv2.data.transforms.geometry import CropResize
from convnextv2.data.transforms.scenes import scale_to
from convnextv2.engine.precision import autocast
from convnextv2.inference.predictor import Normalise
from convnextv2.records import Preprocessing

Mode = Literal["auto", "whole", "slide"]
"""Whether an image goes through the model whole, or window by window; auto: whole up to `WHOLE` windows a side."""

WHOLE = 2.0
"""Images of up to so many windows on their longer side are taken whole by default."""

STRIDE = 2 / 3
"""From one window to the next, as a share of the window: 341 of 512 pixels, as in the paper's framework."""

_BAND_BYTES = 256 << 20
"""What the scores of a band of rows take, about."""

_AT_ONCE = 1 << 20
"""Pixels that go through the model at a time, about."""

_LEAST = 1e-3
"""Weight of a window's last pixel where windows overlap."""


@dataclass(frozen=True, kw_only=True)
class WindowSettings:
    """How a model is laid over an image.

    size: pixels on a side of a window.  base: see `scenes.scale_to`.  mode: see `Mode`.  multiple: of which sides of
    what goes through the model are.  scales: factors on the size of the image, whose probabilities are averaged.
    flip: whether each window is also seen mirrored.
    """

    size: int
    base: int
    mode: Mode = "auto"
    multiple: int = 32
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False


@dataclass(frozen=True)
class Band:
    """Scores of rows of an image.

    top: first row.  scores: float32 (K, rows, W): logits, or probabilities of several views averaged.
    """

    top: int
    scores: Tensor


@dataclass
class _View:
    """An image at one scale, mirrored or not: its pixels, the windows on it, and what the model said of them.

    kept: logits by the place of a window, (K, h, w) as the model gives them.
    """

    image: Tensor
    mirrored: bool
    rows: list[int]
    columns: list[int]
    window: tuple[int, int]
    kept: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image at this scale."""
        return int(self.image.shape[1]), int(self.image.shape[2])


class SceneScorer:
    """A segmenter with its preprocessing: scores for each pixel of an image, at the image's own size.

    model: returns `SegmenterOutput`.  classes: K.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        settings: WindowSettings,
        *,
        classes: int,
        device: torch.device,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        self.model, self.settings, self.device = model.eval().to(device), settings, device
        self.precision: Literal["fp32", "bf16"] = precision
        self._classes, self._format = classes, preprocessing.format
        self._normalise = Normalise(preprocessing).to(device)

    def bands(self, image: Tensor) -> Iterator[Band]:
        """Yield the scores of an image band by band, from the top.

        image: uint8 (C, H, W), or float32 for bands, NaN where pixels are missing.
        """
        height, width = int(image.shape[1]), int(image.shape[2])
        mirrors = (False, True) if self.settings.flip else (False,)
        views = [self._view(image, scale, mirrored) for scale in self.settings.scales for mirrored in mirrors]
        widest = max(width, *(view.size[1] for view in views))
        rows = max(16, _BAND_BYTES // (4 * self._classes * widest))
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            with torch.inference_mode():
                found = self._of_rows(views[0], top, bottom, (height, width))
                if len(views) > 1:
                    found = found.softmax(0)
                    for view in views[1:]:
                        found += self._of_rows(view, top, bottom, (height, width)).softmax(0)
                    found /= len(views)
            yield Band(top, found)

    def classes(self, image: Tensor) -> Tensor:
        """Return the likeliest class of each pixel, uint8 (H, W), on the CPU.  image: as for `bands`."""
        return torch.cat([band.scores.argmax(0).to(torch.uint8).cpu() for band in self.bands(image)])

    def _view(self, image: Tensor, scale: float, mirrored: bool) -> _View:
        s, source = self.settings, (int(image.shape[1]), int(image.shape[2]))
        factor = scale * scale_to(source, s.base)
        height, width = (max(1, round(side * factor)) for side in source)
        if (height, width) != source:
            image = CropResize(source, 0, 0, *source, size=(height, width), format=self._format).on_image(image)
        whole = s.mode == "whole" or (s.mode == "auto" and max(height, width) <= WHOLE * s.size)
        padded = [-(-side // s.multiple) * s.multiple for side in (height, width)]
        high, wide = padded if whole else (min(side, s.size) for side in padded)
        return _View(image, mirrored, places(height, high), places(width, wide), (high, wide))

    def _of_rows(self, view: _View, top: int, bottom: int, size: tuple[int, int]) -> Tensor:
        """Logits of the rows from `top` to `bottom` of an image of `size`, (K, rows, W)."""
        height, width = view.size
        if (height, width) == size:
            return self._blended(view, top, bottom)
        above, below, share = _sources(torch.arange(top, bottom), size[0], height, self.device)
        first, last = int(above[0]), int(below[-1]) + 1
        found = self._blended(view, first, last)
        found = torch.lerp(found[:, above - first], found[:, below - first], share[:, None])
        left, right, share = _sources(torch.arange(size[1]), size[1], width, self.device)
        return torch.lerp(found[:, :, left], found[:, :, right], share)

    def _blended(self, view: _View, first: int, last: int) -> Tensor:
        """Logits of rows of a view, (K, last - first, w): where windows overlap, their mean, weighted by place."""
        (high, wide), width = view.window, view.size[1]
        self._compute(view, first, last)
        if len(view.rows) == len(view.columns) == 1:
            (logits,) = view.kept.values()
            return _enlarged(logits, view.window)[:, first:last, :width]
        found = torch.zeros(self._classes, last - first, width, device=self.device)
        total = torch.zeros(last - first, width, device=self.device)
        weights = _ramp(high, view.rows, self.device)[:, None] * _ramp(wide, view.columns, self.device)
        for (top, left), logits in sorted(view.kept.items()):
            above, below, right = max(top, first), min(top + high, last), min(left + wide, width)
            inside = slice(above - top, below - top), slice(0, right - left)
            place = slice(above - first, below - first), slice(left, right)
            found[:, *place] += _enlarged(logits, view.window)[:, *inside] * weights[inside]
            total[place] += weights[inside]
        return found.div_(total)

    def _compute(self, view: _View, first: int, last: int) -> None:
        """Run the model on the windows that rows need and that are not kept, and forget those above the rows."""
        high, wide = view.window
        for place in [each for each in view.kept if each[0] + high <= first]:
            del view.kept[place]
        needed = [top for top in view.rows if top < last and top + high > first]
        missing = [(top, left) for top in needed for left in view.columns if (top, left) not in view.kept]
        at_once = max(1, _AT_ONCE // (high * wide))
        for start in range(0, len(missing), at_once):
            some = missing[start : start + at_once]
            pixels = torch.stack([self._pixels(view, top, left) for top, left in some])
            with autocast(self.precision, self.device):
                logits = self.model(pixels.flip(-1) if view.mirrored else pixels).logits.float()
            view.kept |= dict(zip(some, logits.flip(-1) if view.mirrored else logits, strict=True))

    def _pixels(self, view: _View, top: int, left: int) -> Tensor:
        """A window's pixels, normalised, and zeros beyond the image: (C, high, wide)."""
        high, wide = view.window
        part = self._normalise(view.image[:, top : top + high, left : left + wide].to(self.device))
        return F.pad(part, (0, wide - part.shape[2], 0, high - part.shape[1]))


def places(length: int, window: int) -> list[int]:
    """Return where the windows of a row begin, in pixels: `STRIDE` apart, the last one flush with the end."""
    if length <= window:
        return [0]
    stride = max(1, math.floor(window * STRIDE))
    return [*range(0, length - window, stride), length - window]


def _enlarged(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (K, h, w) at the size of their window."""
    return F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]


def _ramp(window: int, starts: Sequence[int], device: torch.device) -> Tensor:
    """Weights along a window: 1 in its middle, and falling smoothly to nearly 0 where neighbours overlap."""
    if len(starts) == 1:
        return torch.ones(window, device=device)
    overlap = max(1, window - (starts[1] - starts[0]))
    distance = torch.arange(window, device=device).add(0.5)
    distance = torch.minimum(distance, window - distance).div(overlap).clamp(max=1)
    return torch.sin(distance * math.pi / 2).square().clamp(min=_LEAST)


def _sources(targets: Tensor, size: int, source: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For pixels of a resized axis: the two pixels that bilinear resizing takes them from, and the second's share."""
    place = ((targets.to(device).float() + 0.5) * (source / size) - 0.5).clamp(min=0)
    first = place.long().clamp(max=source - 1)
    return first, (first + 1).clamp(max=source - 1), place - first
