"""The bands of a TIFF: samples of a pixel and pages, in the file's own numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnextv2.data.files.decoders.opened import NotReadError
from convnextv2.data.files.decoders.tiff_pages import (
    GDAL_METADATA,
    NODATA,
    QUIET,
    check_codec,
    check_segments,
    decoded,
    open_file,
    part_of,
)
from convnextv2.data.files.raster import Box, Layout
from convnextv2.data.files.turns import turned
from convnextv2.data.files.values import Values, number_of

_WHITE_IS_ZERO, _GREY, _RGB = 0, 1, 2
_ALPHA = (1, 2, 999)  # kinds of ExtraSamples
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_IMAGE_DESCRIPTION = 270
_MOST_PAGES, _MOST_VALUES = 4096, 1 << 33
_TEXT = 1 << 20  # characters of metadata that are looked through for names

Converted = Callable[[], "Image.Image | Values"]


class TiffBands:
    """All pages of the size and kind of the first are the image's, each with its samples; see `Opened.layout`.

    Smaller copies of the image are left out, and so is a page that is a mask: it says which pixels exist. Colours that
    are coded (palettes, YCbCr, CMYK, CIELab, fax) are those of the first page, converted: its three bands.
    """

    def __init__(self, stream: BinaryIO, converted: Converted) -> None:
        """converted: reads the first page as `Opened.read` does."""
        self._stream, self._converted = stream, converted
        with QUIET.reading():
            file = open_file(stream)
            first = file.pages.first
            self._pages, self._mask = [first], None
            for number in range(1, min(len(file.pages), _MOST_PAGES + 1)):
                page = file.pages[number]
                kind = int(page.tags.valueof(254, 0))
                if page.shape[:2] != first.shape[:2] or kind & _REDUCED:
                    continue
                if kind & _MASK:
                    self._mask = page
                elif (page.shape, page.dtype, page.photometric) == (first.shape, first.dtype, first.photometric):
                    self._pages.append(page)
            self._texts = [str(first.tags.valueof(tag, ""))[:_TEXT] for tag in (GDAL_METADATA, _IMAGE_DESCRIPTION)]
            self._nodata = number_of(str(first.tags.valueof(NODATA, "")))
        self._each = int(first.samplesperpixel)
        # Palette and colours need to be told from numbers by the tag that says what they mean.
        self._coded = 262 in first.tags and int(first.photometric) not in (_WHITE_IS_ZERO, _GREY, _RGB)

    def layout(self) -> Layout:
        """See `Opened.layout`."""
        if self._coded:
            return Layout(self._of_first().shape[2], nodata=self._nodata)
        count = self._each * len(self._pages)
        return Layout(count, self._names(count), self._alpha(), self._nodata)

    def pages(self) -> int:
        """See `Opened.pages`."""
        return 1 if self._coded else len(self._pages)

    def samples(self, bands: Sequence[int]) -> NDArray[Any]:
        """See `Opened.samples`."""
        if self._coded:
            return self._of_first()[..., list(bands)]
        pages = {number: self._decoded(self._pages[number]) for number in sorted({b // self._each for b in bands})}
        if len(pages) == 1:
            (page,) = pages.values()
            return page[..., [band % self._each for band in bands]]
        return np.stack([pages[band // self._each][..., band % self._each] for band in bands], axis=2)

    def in_parts(self) -> bool:
        """See `Opened.in_parts`: TIFF in upright tiles or strips of whole bytes."""
        return not self._coded and _is_of_whole_bytes(self._pages[0])

    def part(self, bands: Sequence[int], box: Box) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """See `Opened.part`."""
        numbers = sorted({band // self._each for band in bands})
        pages = {number: self._part_of(self._pages[number], box) for number in numbers}
        found = [pages[band // self._each][..., band % self._each] for band in bands]
        return np.stack(found, axis=2), self._part_of_mask(box)

    def _part_of_mask(self, box: Box) -> NDArray[np.bool_] | None:
        """A part of the mask; one of single bits is decoded whole, once."""
        if self._mask is None:
            return None
        if _is_of_whole_bytes(self._mask):
            return self._part_of(self._mask, box)[..., 0] > 0
        top, left, high, wide = box
        return self._whole_mask[top : top + high, left : left + wide]

    @cached_property
    def _whole_mask(self) -> NDArray[np.bool_]:
        return self._decoded(self._mask)[..., 0] > 0

    def _part_of(self, page: Any, box: Box) -> NDArray[Any]:
        self._check(page, embedded=False)
        return self._meant(page, part_of(self._stream, page, box))

    def mask(self, bands: Sequence[int]) -> NDArray[np.bool_] | None:
        """See `Opened.mask`: of all bands alike."""
        return None if self._mask is None else self._whole_mask

    def _of_first(self) -> NDArray[Any]:
        """The first page as `Opened.read` gives it, (H, W, N); a palette that is a ramp by its index."""
        found = self._converted()
        if isinstance(found, Values):
            return found.colour
        pixels = np.asarray(found if found.mode in ("L", "P") else found.convert("RGB"))
        return pixels[..., None] if pixels.ndim == 2 else pixels

    def _decoded(self, page: Any) -> NDArray[Any]:
        """The samples of a page, (H, W, S), upright; bits fewer than 8 as 0 to 255, and zero as black."""
        self._check(page)
        if int(np.prod(page.shape)) * page.dtype.itemsize > _MOST_VALUES:
            raise NotReadError(f"TIFF with a page of {' x '.join(map(str, page.shape))} values, more than is read")
        return self._meant(page, turned(decoded(page), int(page.tags.valueof(274, 1))))

    def _check(self, page: Any, *, embedded: bool = True) -> None:
        """Raise NotReadError or ValueError for a page that is not read, or claims what cannot be."""
        if page.dtype is None or page.sampleformat in (5, 6) or page.imagedepth != 1:
            raise NotReadError("TIFF of complex numbers or of several slices a page, a kind that is not read")
        check_codec(page)
        check_segments(self._stream, page, embedded=embedded)

    def _meant(self, page: Any, samples: NDArray[Any]) -> NDArray[Any]:
        """Samples as the tags of their page mean them."""
        bits = 8 * page.dtype.itemsize if isinstance(page.bitspersample, tuple) else int(page.bitspersample)
        if samples.dtype.kind in "bu" and bits < 8:
            samples = np.rint(samples * (255 / (2**bits - 1))).astype(np.uint8)
        if samples.dtype.kind == "u" and int(page.photometric) == _WHITE_IS_ZERO and 262 in page.tags:
            samples = samples.dtype.type(2 ** max(bits, 8) - 1) - samples
        return samples

    def _alpha(self) -> int | None:
        page = self._pages[0]
        said = [int(kind) for kind in page.extrasamples]
        if not said:  # a fourth beside RGB that the file says nothing of
            return 3 if int(page.photometric) == _RGB and self._each == 4 and 262 in page.tags else None
        first = self._each - len(said)
        return next((first + k for k, kind in enumerate(said) if kind in _ALPHA), None)

    def _names(self, count: int) -> tuple[str, ...]:
        """Names of the bands by the metadata of GDAL or of OME; empty if they name none."""
        gdal, ome = self._texts
        found = [""] * count
        for tag, name in re.findall(r"<Item\b([^>]*)>([^<]*)</Item>", gdal):
            number = re.search(r'\bsample="(\d{1,5})"', tag)
            if number and int(number[1]) < count and re.search(r'\bname="DESCRIPTION"', tag):
                found[int(number[1])] = _plain(name)
        if not any(found) and "<OME" in ome:
            channels = re.findall(r"<(?:\w+:)?Channel\b[^>]*?\bName=\"([^\"]*)\"", ome)
            found = [_plain(name) for name in channels] if len(channels) == count else found
        return tuple(found) if any(found) else ()


def _is_of_whole_bytes(page: Any) -> bool:
    """Whether a page is upright and its samples are of whole bytes, so that a part of it can be decoded."""
    bits = page.bitspersample
    return (
        int(page.tags.valueof(274, 1)) == 1
        and not isinstance(bits, tuple)
        and int(bits) % 8 == 0
        and int(bits) == 8 * page.dtype.itemsize
    )


def _plain(name: str) -> str:
    """A name in one line without commas, which separate names."""
    return " ".join(name.replace(",", " ").split())[:64]
