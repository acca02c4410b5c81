"""How image files become pixels, in one record that everything which reads them is given."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnextv2.data.files.band_files import name_of_band
from convnextv2.data.files.decode import MAX_PIXELS, check_channels, opened, to_pixels
from convnextv2.data.files.decoders.opened import Opened
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.parts import Tiles
from convnextv2.data.files.raster import Part, Raster
from convnextv2.data.files.values import ValueRange
from convnextv2.errors import BadImageError
from convnextv2.records import Bands, Preprocessing

ANY = sys.maxsize
"""No limit of pixels, for files of which only the header or a part is read."""

_MOST_BANDS_WHOLE = 16
"""An image of the most pixels may have so many bands; of one with more bands fewer pixels are read."""


@dataclass(frozen=True)
class Reading:
    """What is asked of the files of a list: pictures, or numbers if there are `bands`.

    channels: 1 for grey, 3 for RGB; with `bands`, as many as these have.  max_pixels: images of more pixels count as
    unreadable.  min_side: lets large JPEGs be decoded at a fraction of their size that keeps so many pixels on the
    shorter side.  value_range: the values that become black and white in pictures of more than 8 bits.

    Raises UserError for another number of channels.
    """

    channels: int = 3
    max_pixels: int = MAX_PIXELS
    min_side: int | None = None
    value_range: ValueRange | None = None
    bands: Bands | None = None

    def __post_init__(self) -> None:
        if self.bands is None:
            check_channels(self.channels)
        elif self.channels != len(self.bands.channels):
            raise ValueError(f"{self.channels} channels of {len(self.bands.channels)} bands")

    def raster(self, images: ImageList, index: int, window: Part | None = None) -> Raster:
        """Decode image `index` of a list: (H, W, channels), uint8 for pictures. Raises BadImageError.

        window: a part of the image, which alone is decoded where the file allows; then it alone counts for
        `max_pixels`. Of a list of tiles the tile is read, and filled up where it reaches beyond the image: with missing
        pixels, and of pictures with ImageNet's mean colour.
        """
        if isinstance(images.parts, Tiles):
            tile = images.parts.tile(index)
            return self._filled_up(self.raster(images.parts.whole, images.parts.image(index), tile), tile.side)
        bands = self.bands
        if bands is not None and bands.files:
            return self._from_files(images, index, bands, window)
        with images.open(index, ANY if window else self.max_pixels, None if window else self.min_side) as image:
            self._check(image, images.path(index), window)
            if bands is not None:
                self._check_count(image, bands, images.path(index))
                return image.raster(bands.channels, window).without(bands.nodata)
            if window is not None and image.in_parts() and not image.about().wide:
                return Raster(self._picture(image.raster(None, window)))
            whole = Raster(to_pixels(image.read(), self.channels, self.value_range))
            return whole if window is None else whole.part(window.box(*whole.values.shape[:2]))

    def _filled_up(self, found: Raster, side: int) -> Raster:
        """A tile of `side` pixels on a side."""
        values, (high, wide) = found.values, found.values.shape[:2]
        if (high, wide) == (side, side):
            return found
        beyond = ((0, side - high), (0, side - wide))
        if self.bands is None:
            filled = np.empty((side, side, self.channels), np.uint8)
            filled[:] = [round(255 * mean) for mean in Preprocessing.for_channels(self.channels).mean]
            filled[:high, :wide] = values
            return Raster(filled)
        valid = np.ones((high, wide), bool) if found.valid is None else found.valid
        return Raster(np.pad(values, (*beyond, (0, 0))), np.pad(valid, beyond))

    def _picture(self, found: Raster) -> NDArray[np.uint8]:
        """A part of a file of 8 bits as the picture that `to_pixels` gives: missing pixels are white."""
        values = found.values[..., : 3 if found.values.shape[2] >= 3 else 1]
        if found.valid is not None:
            values = np.where(found.valid[..., None], values, np.uint8(255))
        if values.shape[2] == self.channels:
            return np.ascontiguousarray(values)
        return to_pixels(Image.fromarray(values[..., 0] if values.shape[2] == 1 else values), self.channels)

    def bytes_of(self, images: ImageList, index: int) -> int:
        """Return the size of what `raster` gives, from the header. Raises BadImageError if that is at fault."""
        with images.open(index, self.max_pixels, self.min_side) as image:
            size = 1 if self.bands is None else np.dtype(self.bands.format).itemsize
            return image.size[0] * image.size[1] * self.channels * size

    def _check_count(self, image: Opened, bands: Bands, path: Path) -> None:
        count = image.layout().count
        if count != bands.count and max(bands.channels) >= count:
            raise BadImageError(path, f"{count} band{'s' * (count != 1)}, where {bands.count} are read")

    def _check(self, image: Opened, path: Path, window: Part | None) -> None:
        """Check that no more is decoded than is allowed."""
        width, height = image.size
        if window is not None and image.in_parts():
            _, _, height, width = window.box(height, width)
        if width * height > self.max_pixels:
            raise BadImageError(
                path,
                f"{width} x {height} = {width * height} pixels, more than {self.max_pixels}, and it cannot be decoded"
                " in parts (raise --max-pixels to allow it, or write it as TIFF in tiles)",
            )
        if width * height * self.channels > _MOST_BANDS_WHOLE * self.max_pixels:
            raise BadImageError(
                path,
                f"{width} x {height} pixels of {self.channels} bands, more than {_MOST_BANDS_WHOLE} times"
                f" {self.max_pixels} values (raise --max-pixels to allow it, or pick fewer with --channels)",
            )

    def _from_files(self, images: ImageList, index: int, bands: Bands, window: Part | None) -> Raster:
        """The bands of one image, each the first one of a file of its own."""
        parts: list[Raster] = []
        for channel in bands.channels:
            path = images.root / name_of_band(images.names[index], bands.files, channel)
            with opened(path, ANY if window else self.max_pixels) as image:
                self._check(image, path, window)
                found = image.raster([0], window).without(bands.nodata)
            if parts and found.values.shape != parts[0].values.shape:
                (high, wide), (first_high, first_wide) = found.values.shape[:2], parts[0].values.shape[:2]
                raise BadImageError(
                    path, f"{wide} x {high} pixels, where the image's first band has {first_wide} x {first_high}"
                )
            parts.append(found)
        return Raster.together(parts)


RGB = Reading()
"""The default: RGB, every file whole."""
