"""The loss of segmentation: cross entropy over pixels, and what may be added to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from convnextv2.data.masks.codes import NO_CLASS

_LEAST_KEPT = 1 / 16
"""Share of the pixels that online hard examples keep at least; mmsegmentation keeps 100,000 of 524,288."""


@dataclass(frozen=True)
class SceneLoss:
    """Cross entropy of each pixel, and Dice.

    ignored_pixels_count: divide by all pixels, and not by those with a class; then the loss of a batch is the mean of
    those of its images, however they are divided among micro-batches and processes.
    weights: of the classes, (K,).  ohem: probability of the true class from which on a pixel does not count; 0 for
    none.  dice: weight of the Dice loss.
    """

    ignored_pixels_count: bool = True
    weights: Tensor | None = None
    ohem: float = 0.0
    dice: float = 0.0

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Return the loss, a scalar.

        logits: (B, K, h, w), brought to the size of the masks.  classes: uint8 (B, H, W), `NO_CLASS` for none.
        """
        logits = F.interpolate(logits.float(), classes.shape[-2:], mode="bilinear", align_corners=False)
        targets = classes.long()
        there = classes != NO_CLASS
        weights = None if self.weights is None else self.weights.to(logits.device)
        each = F.cross_entropy(logits, targets, weights, ignore_index=NO_CLASS, reduction="none")
        counted = there
        if self.ohem:
            counted = there & self._hard(logits, targets, there)
            each = torch.where(counted, each, 0)
        of_all = self.ignored_pixels_count and not self.ohem
        loss = each.mean() if of_all else each.sum() / counted.sum().clamp(min=1)
        return loss + self.dice * dice_loss(logits, targets) if self.dice else loss

    @torch.no_grad()
    def _hard(self, logits: Tensor, targets: Tensor, there: Tensor) -> Tensor:
        """Which pixels count, bool (B, H, W)."""
        chance = logits.softmax(1).gather(1, torch.where(there, targets, 0)[:, None])[:, 0]
        known = chance[there].sort().values
        if not len(known):
            return there
        least = min(len(known) - 1, int(_LEAST_KEPT * len(known)))
        return chance <= torch.clamp(known[least], min=self.ohem)


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return 1 minus the soft Dice coefficient, over the classes that the masks hold, a scalar.

    logits: (B, K, H, W).  targets: int64 (B, H, W), `NO_CLASS` for none.
    """
    there = (targets != NO_CLASS)[:, None]
    chances = logits.softmax(1) * there
    truth = F.one_hot(torch.where(there[:, 0], targets, 0), logits.shape[1]).movedim(-1, 1) * there
    both, each = (chances * truth).sum((0, 2, 3)), chances.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    if not present.any():
        return logits.sum() * 0
    return 1 - ((2 * both + 1) / (each + 1))[present].mean()


def balanced_weights(pixels: Tensor) -> Tensor:
    """Return weights (K,) of the classes by the root of how rare they are; their mean over the pixels is 1.

    pixels: int64 (K,), of each class.
    """
    shares = pixels.double() / pixels.sum().clamp(min=1)
    weights = shares.clamp(min=1e-6).rsqrt()
    return (weights / (weights * shares).sum().clamp(min=1e-12)).float()
