"""Targets with a share for every class, and batches of images mixed in pairs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from convnextv2.errors import UserError


def soft_targets(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Return float32 targets (B, num_classes) with label smoothing (Szegedy et al. 2016).

    labels: int64 (B,), one class per image: `1 - smoothing + smoothing / num_classes` for it and
    `smoothing / num_classes` for each other class. Or float (B, num_classes), 1 if an image has the class
    and 0 if not, any number of classes per image: smoothed towards 1/2.
    """
    if labels.is_floating_point():
        assert labels.shape[1:] == (num_classes,)
        return labels.float() * (1 - smoothing) + smoothing / 2
    return F.one_hot(labels, num_classes).float() * (1 - smoothing) + smoothing / num_classes


class Mixing:
    """Mix each image with the one before it in the batch, the first with the last, and their targets likewise.

    Mixup (Zhang et al. 2018) fades one image over the other; CutMix (Yun et al. 2019) puts a box of one into
    the other, and the targets are mixed by the box's true area. One method and one share per batch; if both are
    on, each is used half of the time (timm's batch mode, which pairs from both ends). Draws from torch's global
    CPU generator and from nothing else, wherever the images are.

    Args:
        mixup: parameter of the Beta distribution of the share; 0 for no Mixup.
        cutmix: the same for CutMix.

    Raises:
        UserError: a parameter is negative.
    """

    def __init__(self, mixup: float, cutmix: float) -> None:
        for name, value in (("mixup", mixup), ("cutmix", cutmix)):
            if not value >= 0:
                raise UserError(f"--{name} {value:g}: give 0 for none, or a number above 0, such as 0.8")
        self._ways = [way(alpha=alpha) for way, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if alpha]

    @property
    def active(self) -> bool:
        """Whether anything is mixed at all."""
        return bool(self._ways)

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return mixed images and targets, new tensors of the same dtype and device; unchanged if both are off.

        images: float (B, C, H, W), in an order independent of their classes.  targets: float (B, K).
        """
        if not self._ways:
            return images, targets
        way = self._ways[int(torch.randint(len(self._ways), ()))]
        return way(images, targets)
