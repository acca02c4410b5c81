"""Transforms: random numbers are drawn first, then applied to an image and its annotations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

P = TypeVar("P", bound="Operation")
Target = TypeVar("Target", Tensor, "AnnotatedImage")


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and its annotations. A transform maps it as a whole, and every part stays where it was on the image.

    (Not `Sample`, which the loader makes of an image after all transforms.)

    image: (C, H, W), any of `pixel_format.FORMATS`.
    mask: a class for each pixel, integer (H, W); moved with nearest neighbour.
    boxes: float32 (N, 4), x0, y0, x1, y1 in pixels from the image's upper left corner, 0 to W and 0 to H; moved and
        clipped. A box turned or sheared is the smallest upright one around it; `torchvision.ops.masks_to_boxes` gives
        tighter ones if there are instance masks.
    labels: (N, ...), one entry per object.
    instance_masks: bool or uint8 (N, H, W), one mask per object; moved with nearest neighbour.
    outside: the class written into `mask` at pixels that a move uncovers; 255 is what losses usually ignore.
    kept: int64 (N,), the index that each object had before the first transform; None before it. An object is dropped
        from `boxes`, `labels` and `instance_masks` as soon as its box has no area or its mask no pixel; whatever else
        is known of the objects is selected by `values[kept]`.

    Raises:
        ValueError: the shapes do not fit each other.
    """

    image: Tensor
    mask: Tensor | None = None
    boxes: Tensor | None = None
    labels: Tensor | None = None
    instance_masks: Tensor | None = None
    outside: int = 255
    kept: Tensor | None = None

    def __post_init__(self) -> None:
        size = self.image.shape[-2:]
        if self.image.ndim != 3:
            raise ValueError(f"an image has shape (C, H, W), not {tuple(self.image.shape)}")
        if self.mask is not None and self.mask.shape != size:
            raise ValueError(f"a mask of shape {tuple(self.mask.shape)} on an image of {tuple(size)} pixels")
        if self.boxes is not None and (self.boxes.dtype != torch.float32 or self.boxes.shape[1:] != (4,)):
            raise ValueError(f"boxes are float32 (N, 4), not {self.boxes.dtype} {tuple(self.boxes.shape)}")
        if self.instance_masks is not None and self.instance_masks.shape[1:] != size:
            raise ValueError(f"instance masks of {tuple(self.instance_masks.shape)} on {tuple(size)} pixels")
        if len({len(part) for part in (self.boxes, self.labels, self.instance_masks) if part is not None}) > 1:
            raise ValueError("boxes, labels and instance masks are not of the same number of objects")


class Operation(ABC):
    """One change of an image, fully determined: what a transform has drawn.

    Subclasses are frozen records. Those that move pixels (see `geometry`) also move masks and boxes; for all others,
    masks and boxes stay as they are.
    """

    @abstractmethod
    def on_image(self, image: Tensor) -> Tensor:
        """Return the changed image, (C, H, W) to (C, height, width), in the same format."""

    def on_mask(self, mask: Tensor, fill: int = 0) -> Tensor:
        """Return the mask or masks, integer or bool (..., H, W) to (..., height, width), moved with nearest neighbour.

        fill: the value of pixels that the image does not cover.
        """
        return mask

    def on_boxes(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes, float32 (N, 4), x0, y0, x1, y1 in pixels, moved and clipped; and bool (N,), those with area."""
        return boxes, (boxes[:, 2:] > boxes[:, :2]).all(1)

    def __call__(self, target: Target) -> Target:
        """Return the changed image, or image with annotations; the input is not written into."""
        if isinstance(target, Tensor):
            return self.on_image(target)
        return self._on_annotated(target)

    def _on_annotated(self, target: AnnotatedImage) -> AnnotatedImage:
        mask, boxes, masks = target.mask, target.boxes, target.instance_masks
        seen = None
        if boxes is not None:
            boxes, seen = self.on_boxes(boxes)
        if masks is not None:
            masks = self.on_mask(masks)
            visible = masks.flatten(1).any(1)
            seen = visible if seen is None else seen & visible
        if seen is None:
            seen = torch.ones(0 if target.labels is None else len(target.labels), dtype=torch.bool)
        before = torch.arange(len(seen), device=seen.device) if target.kept is None else target.kept
        return replace(
            target,
            image=self.on_image(target.image),
            mask=None if mask is None else self.on_mask(mask, target.outside),
            boxes=None if boxes is None else boxes[seen],
            labels=None if target.labels is None else target.labels[seen],
            instance_masks=None if masks is None else masks[seen],
            kept=before[seen],
        )


class DrawnTransform(ABC, Generic[P]):
    """A transform in two halves: `draw` decides, `apply` carries out, as often as needed.

    Draws from torch's global generator and from nothing else.
    """

    @abstractmethod
    def draw(self, image: Tensor) -> P:
        """Draw what to do with an image, (C, H, W), from its shape and dtype; its pixels are not read.

        A tensor on the meta device is enough.
        """

    def apply(self, parameters: P, target: Target) -> Target:
        """Carry out what `draw` gave on an image, (C, H, W), or on an `AnnotatedImage`. Nothing random."""
        return parameters(target)

    def __call__(self, target: Target) -> Target:
        """Draw and apply: an image, (C, H, W), or an `AnnotatedImage`."""
        return self.apply(self.draw(target if isinstance(target, Tensor) else target.image), target)
