"""How image files become pixels, in one record that everything which reads them is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convnextv2.data.files.decode import MAX_PIXELS, check_channels, to_pixels
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.values import ValueRange


@dataclass(frozen=True)
class Reading:
    """What is asked of the files of a list; the arguments of `data.files.decode.decode`.

    channels: 1 for grey, 3 for RGB.  max_pixels: images of more pixels count as unreadable.  min_side: lets large JPEGs
    be decoded at a fraction of their size that keeps so many pixels on the shorter side.  value_range: the values that
    become black and white, for files of more than 8 bits.

    Raises UserError for another number of channels.
    """

    channels: int = 3
    max_pixels: int = MAX_PIXELS
    min_side: int | None = None
    value_range: ValueRange | None = None

    def __post_init__(self) -> None:
        check_channels(self.channels)

    def pixels(self, images: ImageList, index: int) -> NDArray[np.uint8]:
        """Decode image `index` of a list: uint8 (H, W, channels). Raises BadImageError."""
        with images.open(index, self.max_pixels, self.min_side) as image:
            return to_pixels(image.read(), self.channels, self.value_range)

    def bytes_of(self, images: ImageList, index: int) -> int:
        """Return the size of what `pixels` gives, from the header. Raises BadImageError if that is at fault."""
        with images.open(index, self.max_pixels, self.min_side) as image:
            return image.size[0] * image.size[1] * self.channels


RGB = Reading()
"""The default: RGB, every file whole."""
