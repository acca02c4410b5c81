"""What every decoder gives: a file whose header was read, and whose pixels can be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnextv2.data.files.raster import Box, Layout, Part, Raster
from convnextv2.data.files.values import WIDE, Values


class NotReadError(Exception):
    """A file of a known kind that is not read: what it is, and what to do with it."""


@dataclass(frozen=True)
class About:
    """What a header says of the pixels.

    kind: for people, as "TIFF, 16 bits, signed".  wide: not plain bytes, so that a value range applies.
    pages: in the file; the first is read.  left_out: samples a pixel that are not read.  nodata: the value that GDAL's
    tag names for missing data.  ramp: the colours of its palette run evenly from dark to bright, so that the index is
    the intensity.
    """

    kind: str
    wide: bool = False
    pages: int = 1
    left_out: int = 0
    nodata: float | None = None
    ramp: bool = False

    @property
    def plain(self) -> bool:
        """Grey or colours of 8 bits, and nothing else to tell."""
        return not (self.wide or self.pages > 1 or self.left_out or self.nodata is not None or self.ramp)


class Opened(ABC):
    """A file whose header was read.  size: width and height of the pixels that `read` gives, before they are turned."""

    size: tuple[int, int]

    def draft(self, min_side: int) -> None:  # noqa: B027
        """Let the file be decoded at 1/2, 1/4 or 1/8 of its size if both sides keep `min_side` pixels; changes `size`.

        Only JPEG can.
        """

    @abstractmethod
    def about(self) -> About:
        """Return what the header says."""

    @abstractmethod
    def read(self) -> Image.Image | Values:
        """Decode the pixels, upright: an image of Pillow's with 8 bits a channel, or wider values."""

    def upright_size(self) -> tuple[int, int]:
        """Return width and height of the pixels as `read` gives them."""
        return self.size

    def pages(self) -> int:
        """Return how many images of one size and kind the file holds: pages of a TIFF, frames."""
        return 1

    def page(self, number: int) -> Opened:
        """Return one of its `pages`, from 0, as an image of its own."""
        return self if self.pages() == 1 else OnePage(self, number)

    @abstractmethod
    def layout(self) -> Layout:
        """Return what bands the file has, from its header."""

    @abstractmethod
    def samples(self, bands: Sequence[int]) -> NDArray[Any]:
        """Decode some bands, upright: (H, W, len(bands)), any numbers, as the file holds them."""

    def mask(self, bands: Sequence[int]) -> NDArray[np.bool_] | None:
        """Return where these bands have pixels, bool (H, W), as the file says beside its alpha; None if it does not."""
        return None

    def in_parts(self) -> bool:
        """Whether `part` decodes a part of the pixels without the rest."""
        return False

    def part(self, bands: Sequence[int], box: Box) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Return what `samples` and `mask` give of a part of the pixels; if not `in_parts`, all are decoded for it."""
        top, left, high, wide = box
        place, found, valid = (slice(top, top + high), slice(left, left + wide)), self.samples(bands), self.mask(bands)
        return found[place], None if valid is None else valid[place]

    def raster(self, channels: Sequence[int] | None = None, window: Part | None = None) -> Raster:
        """Decode the bands `channels`, from 0, in that order; None for all but alpha.

        window: a part of the image; None for all of it.

        Pixels do not exist where alpha is zero (unless it is one of the channels), where all bands hold the file's
        value for missing data (see `Raster.without`), and where a value is not finite.

        Raises NotReadError for bands that the file does not have.
        """
        layout = self.layout()
        chosen = list(layout.own if channels is None else channels)
        if not chosen or not all(0 <= band < layout.count for band in chosen):
            asked = ", ".join(str(band + 1) for band in chosen)
            raise NotReadError(f"{layout.count} band{'s' * (layout.count != 1)}, where {asked or 'some'} are read")
        masked = layout.alpha is not None and layout.alpha not in chosen
        bands = [*chosen, layout.alpha] if masked and layout.alpha is not None else chosen
        if window is None:
            found, valid = self.samples(bands), self.mask(bands)
        else:
            width, height = self.upright_size()
            found, valid = self.part(bands, window.box(height, width))
        if masked:
            there = found[..., -1] > 0
            found, valid = found[..., :-1], there if valid is None else valid & there
        return Raster.of(found, valid).without(layout.nodata)


class OnePage(Opened):
    """One page of a file whose bands are those of its pages one after another."""

    def __init__(self, file: Opened, number: int) -> None:
        """number: of the page, from 0."""
        self._file, self.size = file, file.size
        self._each = file.layout().count // file.pages()
        self._first = number * self._each

    def about(self) -> About:
        """See `Opened.about`."""
        return replace(self._file.about(), pages=1)

    def upright_size(self) -> tuple[int, int]:
        """See `Opened.upright_size`."""
        return self._file.upright_size()

    def layout(self) -> Layout:
        """See `Opened.layout`."""
        whole = self._file.layout()
        return replace(whole, count=self._each, names=whole.names[self._first : self._first + self._each])

    def samples(self, bands: Sequence[int]) -> NDArray[Any]:
        """See `Opened.samples`."""
        return self._file.samples([self._first + band for band in bands])

    def mask(self, bands: Sequence[int]) -> NDArray[np.bool_] | None:
        """See `Opened.mask`."""
        return self._file.mask([self._first + band for band in bands])

    def in_parts(self) -> bool:
        """See `Opened.in_parts`."""
        return self._file.in_parts()

    def part(self, bands: Sequence[int], box: Box) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """See `Opened.part`."""
        return self._file.part([self._first + band for band in bands], box)

    def read(self) -> Image.Image | Values:
        """See `Opened.read`."""
        if self._first == 0:
            return self._file.read()
        bands = self.layout().own
        if len(bands) not in (1, 3):
            raise NotReadError(f"a page of {len(bands)} bands, which is no picture: pick 1 or 3 with --channels")
        found = self.samples(bands)
        if found.dtype == np.uint8:
            return Image.fromarray(np.ascontiguousarray(found[..., 0] if len(bands) == 1 else found))
        return Values(found, None if found.dtype.kind == "f" else WIDE)
