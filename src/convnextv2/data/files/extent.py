"""How large the images of a list are, and whether they are grey, from a few dozen of them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median_low

import numpy as np

from convnextv2.data.files.decode import MAX_PIXELS, to_pixels
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.look import FILES
from convnextv2.errors import BadImageError

_DECODED = 6
_SIDE = 64  # pixels that a JPEG is decoded at


@dataclass(frozen=True)
class Extent:
    """files: how many could be opened.  side: the median of their shorter sides, in pixels; 0 without files.

    grey: whether all of the few that were decoded have no colour, however they are stored.
    """

    files: int = 0
    side: int = 0
    grey: bool = False


def extent(images: ImageList, *, max_pixels: int = MAX_PIXELS) -> Extent:
    """Look at some files of a list, the same ones every time; those that cannot be read are left out."""
    count = min(FILES, len(images))
    sides: list[int] = []
    grey: list[bool] = []
    for number in range(count):
        index = number * len(images) // count
        try:
            with images.open(index, max_pixels) as image:
                sides.append(min(image.size))
                if len(grey) < _DECODED and all(grey):
                    image.draft(_SIDE)
                    pixels = to_pixels(image.read(), 3)
                    grey.append(bool(np.ptp(pixels, axis=2).max() == 0))
        except BadImageError:
            continue
    return Extent(len(sides), median_low(sides), bool(grey) and all(grey)) if sides else Extent()
