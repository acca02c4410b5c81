"""Settings of `convnextv2 stats`; the Python call and the command line read the same class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from convnextv2.settings import Settings

IMAGES = 1000
"""How many images are read if nobody says, spread evenly over a list."""


@dataclass(frozen=True, kw_only=True)
class StatsSettings(Settings):
    """Settings of `convnextv2 stats`."""

    bands: str | tuple[str, ...] | None = None
    """Patterns of the files of each band, where an image's bands lie in files of their own, as
    '{id}_B02.tif,{id}_B03.tif'."""
    channels: str | tuple[str, ...] | None = None
    """Which bands are read, in this order: numbers from 1, or names, as 4,3,2; by default all of them."""
    pages: Literal["bands", "images"] = "bands"
    """What the pages of a TIFF and the frames of DICOM are: bands of one image, or images of their own."""
    nodata: float | None = None
    """The value that stands for missing data; NaN, alpha and what a file says itself always do."""
    images: int | Literal["all"] = IMAGES
    """How many images are read, spread evenly over the folder; all reads every one."""
    workers: int | None = None
    """Processes that read images; by default one per core less one, at most 8."""
    max_pixels: int = 100_000_000
    """Images of more pixels count as unreadable (decompression bombs)."""

    def rules(self) -> Iterator[tuple[bool, str]]:
        """Yield rules, as `Settings.rules`."""
        if self.images != "all":
            yield from self.in_range("images", 1, float("inf"))
        yield from self.in_range("workers", 0, float("inf"))
        yield from self.in_range("max_pixels", 1, float("inf"))
