"""The bands of an image in the file's own numbers, and where there is data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMATS = ("uint8", "uint16", "int16", "float32")
"""Number formats of a `Raster`; signed bytes become int16, all wider ones float32."""

_FORMAT = {"b": {1: "uint8"}, "u": {1: "uint8", 2: "uint16"}, "i": {1: "int16", 2: "int16"}}
_MOST_BANDS = 4096


@dataclass(frozen=True)
class Layout:
    """The bands of a file, as its header says.

    count: all of them, one that is alpha included.  names: one a band, "" for one without; empty if none has.
    alpha: the band that says how far a pixel is there; it is none of the image's own unless it is asked for.
    nodata: the value that stands for missing data, as the file says.
    """

    count: int
    names: tuple[str, ...] = ()
    alpha: int | None = None
    nodata: float | None = None

    @property
    def own(self) -> tuple[int, ...]:
        """The bands that are read if nobody picks any: all but alpha."""
        return tuple(band for band in range(self.count) if band != self.alpha)


Box = tuple[int, int, int, int]
"""Top, left, height and width of a part of an image, in pixels."""


@dataclass(frozen=True)
class Window:
    """A square part of an image of any size, the whole of it where the image is smaller.

    y, x: where it lies, from 0 (top, left) to below 1 (bottom, right).  side: in pixels.
    """

    y: float
    x: float
    side: int

    def box(self, height: int, width: int) -> Box:
        """Return the part of an image of so many pixels."""
        high, wide = min(self.side, height), min(self.side, width)
        return int(self.y * (height - high + 1)), int(self.x * (width - wide + 1)), high, wide


@dataclass(frozen=True)
class Tile:
    """A square part of an image at a fixed place, cut off where the image ends.

    top, left: of its upper left corner.  side: in pixels.
    """

    top: int
    left: int
    side: int

    def box(self, height: int, width: int) -> Box:
        """Return the part of an image of so many pixels."""
        return self.top, self.left, min(self.side, height - self.top), min(self.side, width - self.left)


Part = Window | Tile
"""A part of an image whose size is not known before it is opened."""


@dataclass(frozen=True)
class Raster:
    """Some bands of an image.

    values: (H, W, N), of one of `FORMATS`.  valid: bool (H, W), the pixels that exist; None if all do.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_] | None = None

    @staticmethod
    def of(samples: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> Raster:
        """Return samples, (H, W, N) of any real numbers, as a raster; pixels with a value that is not finite are out.

        Raises ValueError for other numbers, and for more than 4096 bands.
        """
        if samples.dtype.kind not in "buif":
            raise ValueError(f"values of {samples.dtype}, which are no real numbers")
        if samples.shape[2] > _MOST_BANDS:
            raise ValueError(f"{samples.shape[2]} bands, more than {_MOST_BANDS}")
        name = _FORMAT.get(samples.dtype.kind, {}).get(samples.dtype.itemsize, "float32")
        values = np.ascontiguousarray(samples, name)
        if samples.dtype.kind == "b":
            values *= np.uint8(255)
        if name == "float32":
            valid = _both(valid, np.asarray(np.isfinite(values).all(2)))
        return Raster(values, None if valid is None or valid.all() else valid)

    def part(self, box: Box) -> Raster:
        """Return a part of it."""
        top, left, high, wide = box
        place = slice(top, top + high), slice(left, left + wide)
        return Raster.of(self.values[place], None if self.valid is None else self.valid[place])

    def without(self, nodata: float | None) -> Raster:
        """Return the raster without the pixels that hold the value `nodata`.

        0 and the largest value of an integer format are also what a dark or a bright pixel gives, so they count only
        where all bands have them; any other value counts where any band has it.
        """
        values = self.values
        if nodata is None or np.isnan(nodata):
            return self
        integers = values.dtype.kind in "iu"
        if integers and not (np.iinfo(values.dtype).min <= nodata <= np.iinfo(values.dtype).max and nodata % 1 == 0):
            return self
        same = values == values.dtype.type(nodata)
        ordinary = integers and nodata in (0, np.iinfo(values.dtype).max)
        missing = same.all(2) if ordinary else same.any(2)
        return self if not missing.any() else Raster(values, _both(self.valid, ~missing))

    @staticmethod
    def together(parts: Sequence[Raster]) -> Raster:
        """Return the bands of rasters of one size, one after another; a pixel exists where it does in all of them."""
        if len(parts) == 1:
            return parts[0]
        valid = None
        for part in parts:
            valid = part.valid if valid is None else _both(part.valid, valid)
        return Raster.of(np.concatenate([part.values for part in parts], axis=2), valid)


def _both(one: NDArray[np.bool_] | None, two: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return two if one is None else one & two
