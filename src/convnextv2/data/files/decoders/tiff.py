"""TIFF by tifffile and imagecodecs; the few kinds that they do not convert by Pillow (libtiff)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnextv2.data.files.decoders.opened import About, NotReadError, Opened
from convnextv2.data.files.decoders.pillow import PillowImage
from convnextv2.data.files.decoders.tiff_bands import TiffBands
from convnextv2.data.files.decoders.tiff_directory import TiffDirectories
from convnextv2.data.files.decoders.tiff_pages import (
    GDAL_METADATA,
    JPEG,
    NODATA,
    QUIET,
    check_codec,
    check_segments,
    decoded,
    open_file,
)
from convnextv2.data.files.palette import is_grey, is_ramp
from convnextv2.data.files.raster import Box, Layout
from convnextv2.data.files.turns import turned
from convnextv2.data.files.values import WIDE, Values, alpha_of, number_of

_GREY, _WHITE_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 1, 0, 2, 3, 5, 6, 8
_COLOURS = {_GREY: 1, _WHITE_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _LAB: 3}
_ASSOCIATED, _UNASSOCIATED, _COREL = 1, 2, 999
_FAX = (2, 3, 4)
_MOST_SAMPLES = 6  # of colour and beside it; more are bands
_SMALL = 1 << 16  # pixels that are not worth parts
_AS_BANDS = "write it as grey or RGB, one file a picture"


def is_tiff(head: bytes) -> bool:
    """Whether the first bytes are the header of a TIFF or BigTIFF, and not of a camera's raw file (CR2)."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") and head[8:10] != b"CR"


def open_tiff(stream: BinaryIO) -> Opened:
    """Open a TIFF by the reader that is right about its kind.

    Raises NotReadError for a kind that none is right about, ValueError for a damaged one.
    """
    directories = TiffDirectories(stream)
    tags = directories.read()
    stream.seek(0)
    if _is_pillows(tags):
        return TiffByPillow(stream, directories)
    with QUIET.reading():
        page = open_file(stream).pages.first
    stream.seek(0)
    if page.photometric == _YCBCR or page.compression in _FAX:
        raise NotReadError(f"TIFF of {_kind(page)}, a kind that is not read: {_AS_BANDS}")
    return TiffImage(stream, page, directories)


def _is_pillows(tags: Mapping[int, tuple[int, ...]]) -> bool:
    """Whether Pillow is right about a kind, and faster or the only one: plain bytes, JPEG, YCbCr, fax."""
    bits, compression, photometric = tags.get(258, (1,)), tags.get(259, (1,))[0], tags.get(262, (0,))[0]
    if tags.get(284, (1,)) != (1,) or set(tags.get(339, (1,))) != {1} or tags.get(32997, (1,)) != (1,):
        return False  # in planes, not unsigned, or of several slices
    if compression in _FAX:
        return bits == (1,)
    if set(bits) != {8}:
        return False
    if compression in JPEG or photometric == _YCBCR:
        return True
    in_strips = 322 not in tags and 0 not in tags.get(273, (1,))
    nothing_else = 338 not in tags and tags.get(266, (1,)) == (1,) and len(bits) == (3 if photometric == _RGB else 1)
    return in_strips and nothing_else and photometric in (_WHITE_IS_ZERO, _GREY, _RGB) and compression in (1, 5)


class _InParts(Opened):
    """What both readers of TIFF share: pages, and parts of large files."""

    _bands: TiffBands
    _directories: TiffDirectories

    def pages(self) -> int:
        """See `Opened.pages`."""
        return self._bands.pages() if self._directories.pages(2) > 1 else 1

    def in_parts(self) -> bool:
        """See `Opened.in_parts`."""
        return self.size[0] * self.size[1] > _SMALL and self._bands.in_parts()

    def part(self, bands: Sequence[int], box: Box) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """See `Opened.part`."""
        return self._bands.part(bands, box) if self.in_parts() else super().part(bands, box)


class TiffByPillow(_InParts, PillowImage):
    """See `_is_pillows`."""

    def __init__(self, stream: BinaryIO, directories: TiffDirectories) -> None:
        super().__init__(stream)
        self._directories, self._file = directories, stream

    def about(self) -> About:
        """See `Opened.about`."""
        return About("TIFF, 8 bits", pages=self._directories.pages(), nodata=number_of(self._directories.text(NODATA)))

    def layout(self) -> Layout:
        """See `Opened.layout`."""
        if self._directories.pages(2) > 1 or self._directories.text(GDAL_METADATA):
            return self._bands.layout()
        return replace(super().layout(), nodata=number_of(self._directories.text(NODATA)))

    def samples(self, bands: Sequence[int]) -> NDArray[Any]:
        """See `Opened.samples`."""
        return self._bands.samples(bands) if self._directories.pages(2) > 1 else super().samples(bands)

    def mask(self, bands: Sequence[int]) -> NDArray[np.bool_] | None:
        """See `Opened.mask`."""
        return self._bands.mask(bands) if self._directories.pages(2) > 1 else None

    @cached_property
    def _bands(self) -> TiffBands:  # pyright: ignore[reportIncompatibleVariableOverride]
        return TiffBands(self._file, super().read)


class TiffImage(_InParts):
    """The first page of a TIFF, by tifffile."""

    def __init__(self, stream: BinaryIO, page: Any, directories: TiffDirectories) -> None:
        self._stream, self._page, self._directories = stream, page, directories
        self._photometric = int(page.photometric) if 262 in page.tags or page.samplesperpixel < 3 else _RGB
        self._extras = _extras(page)
        self._colours = _COLOURS.get(self._photometric, 0)
        self._alpha = next((k for k, kind in enumerate(self._extras) if kind in (1, 2, _COREL)), None)
        self.size = (int(page.imagewidth), int(page.imagelength))

    def about(self) -> About:
        """See `Opened.about`."""
        page = self._page
        left_out = len(self._extras) - (self._alpha is not None)
        ramp = self._photometric == _PALETTE and page.bitspersample == 8 and is_ramp(self._with_palette(_ONE_PIXEL))
        coded = self._photometric in (_PALETTE, _CMYK, _LAB)
        wide = not coded and not (page.sampleformat in (1, 4) and self._bits <= 8)
        return About(
            f"TIFF, {_depth(page)}",
            wide,
            self._directories.pages(),
            left_out,
            number_of(self._directories.text(NODATA)),
            ramp,
        )

    def upright_size(self) -> tuple[int, int]:
        """See `Opened.upright_size`."""
        width, height = self.size
        return (height, width) if int(self._page.tags.valueof(274, 1)) in (5, 6, 7, 8) else (width, height)

    def layout(self) -> Layout:
        """See `Opened.layout`."""
        return self._bands.layout()

    def samples(self, bands: Sequence[int]) -> NDArray[Any]:
        """See `Opened.samples`."""
        return self._bands.samples(bands)

    def mask(self, bands: Sequence[int]) -> NDArray[np.bool_] | None:
        """See `Opened.mask`."""
        return self._bands.mask(bands)

    @cached_property
    def _bands(self) -> TiffBands:  # pyright: ignore[reportIncompatibleVariableOverride]
        return TiffBands(self._stream, self._index_or_read)

    def _index_or_read(self) -> Image.Image | Values:
        """The page as `read` gives it, a palette that is no ramp as greys or colours."""
        found = self.read()
        if isinstance(found, Image.Image) and found.mode == "P" and not is_ramp(found):
            return found.convert("L" if is_grey(found) else "RGB")
        return found

    def read(self) -> Image.Image | Values:
        """See `Opened.read`."""
        self._check()
        try:
            samples = decoded(self._page)
        except Exception:
            if not self._pillow_agrees():
                raise
            self._stream.seek(0)
            return PillowImage(self._stream).read()
        return self._meaning(turned(samples, int(self._page.tags.valueof(274, 1))))

    @property
    def _bits(self) -> int:
        bits = self._page.bitspersample  # samples of different widths are scaled to whole bytes by tifffile
        return 8 * self._page.dtype.itemsize if isinstance(bits, tuple) and self._page.dtype else int(np.max(bits))

    def _check(self) -> None:
        """Raise NotReadError for a kind that is not read, ValueError for a page that claims what cannot be."""
        page, left_out = self._page, len(self._extras) - (self._alpha is not None)
        unread = (
            page.dtype is None
            or page.sampleformat in (5, 6)
            or page.imagedepth != 1
            or not self._colours
            or (self._colours == 1 and left_out > 1)
            or page.samplesperpixel > _MOST_SAMPLES
            or (page.samplesperpixel > self._colours and not self._extras)
            or (self._photometric in (_PALETTE, _CMYK, _LAB) and (page.sampleformat not in (1, 4) or self._bits > 16))
            or (self._photometric in (_CMYK, _LAB) and self._bits not in (8, 16))
            or int(page.tags.valueof(332, 1)) != 1  # inks other than those of CMYK
        )
        if unread:
            raise NotReadError(f"TIFF of {_kind(page)}, a kind that is not read: {_AS_BANDS}")
        check_codec(page)
        if page.samplesperpixel < self._colours or min(self.size) < 1:
            raise ValueError(f"damaged: {self.size[0]} x {self.size[1]} pixels of {page.samplesperpixel} samples")
        check_segments(self._stream, page)

    def _pillow_agrees(self) -> bool:
        """Whether Pillow is right about this kind, so that it may try what tifffile refuses, such as odd padding."""
        page = self._page
        return (
            page.sampleformat == 1 and page.planarconfig == 1 and page.predictor in (1, 2) and page.bitspersample == 8
        )

    def _meaning(self, samples: NDArray[Any]) -> Image.Image | Values:
        """Turn samples (H, W, S) into pixels by the tags that say what they mean."""
        colour, extra = samples[..., : self._colours], samples[..., self._colours :]
        alpha = None if self._alpha is None else extra[..., self._alpha]
        kind = 0 if self._alpha is None else self._extras[self._alpha]
        inverted = self._photometric == _WHITE_IS_ZERO
        if self._photometric in (_PALETTE, _CMYK, _LAB):
            image = self._converted(colour)
            return image if alpha is None else _image(np.asarray(image.convert("RGB")), _bytes(alpha, self._bits), kind)
        if self._page.sampleformat in (1, 4) and self._bits <= 8:
            colour = _bytes(colour, self._bits)
            colour = 255 - colour if inverted else colour
            return _image(colour, None if alpha is None else _bytes(alpha, self._bits), kind)
        return Values(
            colour,
            self._shown(),
            white_is_zero=inverted,
            alpha=None if alpha is None else alpha_of(alpha, self._bits),
            premultiplied=kind == _ASSOCIATED,
        )

    def _shown(self) -> tuple[float, float] | None:
        """What is black and white if nobody says otherwise."""
        if self._page.dtype.kind == "f":
            return None
        return WIDE if self._bits >= 16 else (0, 2**self._bits - 1)

    def _converted(self, colour: NDArray[Any]) -> Image.Image:
        """Colours that Pillow converts: a palette's, CMYK, CIELab."""
        if self._photometric == _PALETTE:
            return self._with_palette(colour[..., 0])
        if self._bits == 16:  # the high bytes; rounding would wrap the signed a and b of CIELab
            colour = (colour >> 8).astype(np.uint8)
        colour, size = np.ascontiguousarray(colour), (colour.shape[1], colour.shape[0])
        if self._photometric == _CMYK:
            return Image.frombytes("CMYK", size, colour.tobytes())
        return Image.frombytes("LAB", size, colour.tobytes(), "raw", "LAB", 0, 1)

    def _with_palette(self, indices: NDArray[Any]) -> Image.Image:
        """Return the image of these indices, (H, W)."""
        palette = self._page.colormap
        if palette is None:
            raise ValueError("damaged: a palette image without its palette")
        palette = np.asarray(palette)
        palette = (palette if palette.max() < 256 else palette >> 8).astype(np.uint8).T  # some writers use bytes
        if self._bits > 8:
            return Image.fromarray(np.ascontiguousarray(palette[indices]))
        indices = np.ascontiguousarray(indices.astype(np.uint8))
        image = Image.frombytes("P", (indices.shape[1], indices.shape[0]), indices.tobytes())
        image.putpalette(np.ascontiguousarray(palette).tobytes())
        return image


_ONE_PIXEL = np.zeros((1, 1), np.uint8)


def _extras(page: Any) -> tuple[int, ...]:
    """What each sample beyond the colours is; a fourth beside RGB that the file says nothing of is alpha."""
    said = tuple(int(kind) for kind in page.extrasamples)
    if not said and page.photometric == _RGB and page.samplesperpixel == 4:
        return (_UNASSOCIATED,)
    return said


def _bytes(samples: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Unsigned samples of up to 16 bits as 0 to 255."""
    if samples.dtype == bool:
        return samples.astype(np.uint8) * np.uint8(255)
    if bits == 8:
        return samples
    return np.rint(samples * (255 / (2**bits - 1))).astype(np.uint8)


def _image(colour: NDArray[np.uint8], alpha: NDArray[np.uint8] | None, kind: int) -> Image.Image:
    """An image of Pillow's of (H, W, 1 or 3) bytes and perhaps alpha (H, W)."""
    grey, premultiplied = colour.shape[2] == 1, kind == _ASSOCIATED
    size = (colour.shape[1], colour.shape[0])
    if alpha is None:
        return Image.frombuffer("L" if grey else "RGB", size, np.ascontiguousarray(colour), "raw")
    mode = ("La" if premultiplied else "LA") if grey else ("RGBa" if premultiplied else "RGBA")
    both = np.concatenate([colour, alpha[..., None]], axis=2)
    return Image.frombytes(mode, size, both.tobytes())


def _kind(page: Any) -> str:
    samples = int(page.samplesperpixel)
    return f"{samples} sample{'s' if samples > 1 else ''} of {_depth(page)}, {_photometric(page)}"


def _depth(page: Any) -> str:
    bits = page.bitspersample
    shown = "/".join(map(str, bits)) if isinstance(bits, tuple) else str(int(bits))
    formats = {2: ", signed", 3: ", float", 5: ", complex", 6: ", complex"}
    return f"{shown} bits{formats.get(page.sampleformat, '')}"


def _photometric(page: Any) -> str:
    return getattr(page.photometric, "name", f"photometric {page.photometric}")
