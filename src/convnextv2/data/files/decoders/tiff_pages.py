"""Pages of a TIFF by tifffile, checked before they are decoded."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import math
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnextv2.data.files.decoders.opened import NotReadError
from convnextv2.data.files.decoders.tiff_directory import MOST_SEGMENTS
from convnextv2.data.files.raster import Box

JPEG, WEBP, PNG, JPEG_2000 = (6, 7), 50001, 34933, (33004, 33005, 34712)
_EMBEDDED = (*JPEG, WEBP, PNG, *JPEG_2000)
_PLAIN_CODECS = (1, 5, 8, 32946, 32773, 34925, 34926, 50000)  # none, LZW, deflate, PackBits, LZMA, zstd
NODATA, GDAL_METADATA = 42113, 42112  # GDAL's
_GDAL = (33550, 34264, 34735, NODATA)  # tags of files whose empty tiles may be left out


class _Quiet(logging.Filter):
    """Drops what tifffile logs about a file while this module reads it; other uses of tifffile go on logging."""

    def __init__(self) -> None:
        super().__init__()
        self._here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(self._here, "reading", False)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        self._here.reading = True
        try:
            yield
        finally:
            self._here.reading = False


QUIET = _Quiet()
logging.getLogger("tifffile").addFilter(QUIET)


def open_file(stream: BinaryIO) -> Any:
    """Open a TIFF of which only the pages matter, as a `TiffFile`."""
    from tifffile import TiffFile  # a third of a second, which most folders need not spend

    stream.seek(0)
    with QUIET.reading():
        return TiffFile(stream, is_lsm=False, is_scanimage=False, is_ndpi=False)  # these read beyond the first page


def decoded(page: Any) -> NDArray[Any]:
    """Decode a page that was checked: (H, W, S), as it lies in the file."""
    with QUIET.reading():
        samples = page.asarray(squeeze=False, maxworkers=1)
    return samples[:, 0, :, :, 0].transpose(1, 2, 0) if page.planarconfig == 2 else samples[0, 0]


def part_of(stream: BinaryIO, page: Any, box: Box) -> NDArray[Any]:
    """Decode a part of a page that was checked: (h, w, S), as it lies in the file; no tile or strip beside it is read.

    Of uncompressed strips only the rows are read.
    """
    top, left, high, wide = box
    samples, width, length = int(page.samplesperpixel), int(page.imagewidth), int(page.imagelength)
    across, down = (page.tilewidth, page.tilelength) if page.is_tiled else (width, min(page.rowsperstrip, length))
    planes = samples if page.planarconfig == 2 else 1
    columns, rows = math.ceil(width / across), math.ceil(length / down)
    decode, tables = page.decode, page.jpegtables  # which read the file when they are first asked for
    found = np.zeros((high, wide, samples), page.dtype)
    for plane, row, column in itertools.product(
        range(planes),
        range(top // down, (top + high - 1) // down + 1),
        range(left // across, (left + wide - 1) // across + 1),
    ):
        first, begin = max(top, row * down), max(left, column * across)
        last, end = min(top + high, (row + 1) * down), min(left + wide, (column + 1) * across)
        number = (plane * rows + row) * columns + column
        offset, size = int(page.dataoffsets[number]), int(page.databytecounts[number])
        if not size:
            continue  # a tile that was left out
        inside = slice(first - row * down, last - row * down), slice(begin - column * across, end - column * across)
        if page.compression == 1 and not page.is_tiled and page.predictor == 1 and page.fillorder == 1:
            segment = _rows(stream, page, offset, samples // planes, inside[0])[:, inside[1]]
        else:
            if page.compression in _EMBEDDED:
                _check_embedded(stream, page, offset, size, (across, down))
            stream.seek(offset)
            with QUIET.reading():
                segment = decode(stream.read(size), number, jpegtables=tables)[0][0][inside]
        place = found[first - top : last - top, begin - left : end - left]
        place[..., plane : plane + 1 if planes > 1 else None] = segment
    return found


def _rows(stream: BinaryIO, page: Any, offset: int, samples: int, rows: slice) -> NDArray[Any]:
    """Some rows of an uncompressed strip, (rows, W, samples)."""
    kind = page.dtype.newbyteorder(page.parent.byteorder)
    line = int(page.imagewidth) * samples * kind.itemsize
    stream.seek(offset + rows.start * line)
    found = np.frombuffer(stream.read((rows.stop - rows.start) * line), kind)
    return found.reshape(-1, int(page.imagewidth), samples)


def check_codec(page: Any) -> None:
    """Raise NotReadError unless the pixels are compressed by something that is read."""
    if page.compression not in (*_PLAIN_CODECS, *_EMBEDDED):
        name = getattr(page.compression, "name", page.compression)
        raise NotReadError(f"TIFF compressed by {name}, a kind that is not read: write it with deflate or LZW")


def check_segments(stream: BinaryIO, page: Any, *, embedded: bool = True) -> None:
    """Check strips and tiles before they are decoded: all there, none larger than the image needs.

    embedded: also what each claims of its own size, if it is an image of its own.

    Raises ValueError.
    """
    wide, high = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
    if wide < 1 or high < 1:
        raise ValueError("damaged: strips or tiles of no size")
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    count = planes * math.ceil(page.imagewidth / wide) * math.ceil(page.imagelength / high)
    values = page.imagewidth * page.imagelength * page.samplesperpixel
    if count > MOST_SEGMENTS or wide * high * page.samplesperpixel > max(4 * values, 1 << 24):
        raise ValueError(f"damaged: {count} strips or tiles of {wide} x {high} pixels")
    offsets, sizes = page.dataoffsets, page.databytecounts
    if len(offsets) < count or len(sizes) < count:
        raise ValueError(f"damaged: {min(len(offsets), len(sizes))} strips or tiles of {count}")
    may_miss = any(tag in page.tags for tag in _GDAL)
    end = stream.seek(0, io.SEEK_END)
    for offset, size in zip(offsets[:count], sizes[:count], strict=True):
        if not (offset and size) and not (may_miss and not offset and not size):
            raise ValueError("damaged: a strip or tile is missing")
        if offset + size > end and page.compression != 1:
            raise ValueError("truncated: a strip or tile reaches beyond the end of the file")
    if embedded and page.compression in _EMBEDDED:
        for offset, size in zip(offsets[:count], sizes[:count], strict=True):
            _check_embedded(stream, page, int(offset), int(size), (wide, high))


def _check_embedded(stream: BinaryIO, page: Any, offset: int, size: int, limit: tuple[int, int]) -> None:
    """Raise ValueError if a strip or tile that is an image of its own is larger than its place."""
    stream.seek(offset)
    data = stream.read(size)
    found = _jpeg_size(data) if page.compression in JPEG else Image.open(io.BytesIO(data)).size
    if found[0] * found[1] > limit[0] * limit[1] or min(found) < 1:
        raise ValueError(f"damaged: a strip or tile of {limit[0]} x {limit[1]} pixels holds {found[0]} x {found[1]}")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height in the header of a JPEG stream."""
    at = 2
    while at + 9 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at] != 0xFF or length < 2:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += length + 2
    raise ValueError("damaged: a strip or tile without the header of its JPEG")
