"""NumPy's files: .npy, and .npz of one array."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from convnextv2.data.files.decoders.opened import About, NotReadError, Opened
from convnextv2.data.files.raster import Box, Layout
from convnextv2.data.files.values import WIDE, Values

_MOST_BYTES = 1 << 33
_MAGIC = b"\x93NUMPY"


def is_array(head: bytes) -> bool:
    """Whether the first bytes are of a .npy file, or of a .npz whose first entry is one."""
    return head.startswith(_MAGIC) or (head.startswith(b"PK\3\4") and _first_name(head).endswith(b".npy"))


def _first_name(head: bytes) -> bytes:
    return head[30 : 30 + int.from_bytes(head[26:28], "little")]


class ArrayFile(Opened):
    """An array (H, W), (H, W, bands) or (bands, H, W): the bands lie along the shorter of the first and last axis."""

    def __init__(self, stream: BinaryIO) -> None:
        self._in_zip = stream.read(4) == b"PK\3\4"
        stream.seek(0)
        self._stream = _only_array(stream) if self._in_zip else stream
        try:
            major = npy.read_magic(self._stream)[0]
            read = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
            shape, self._fortran, self._dtype = read(self._stream)
        except ValueError as error:
            raise ValueError(f"damaged: no header of a NumPy array ({' '.join(str(error).split())[:80]})") from error
        self._shape, self._start = tuple(map(int, shape)), self._stream.tell()
        if self._dtype.kind not in "buif":
            raise NotReadError(f"a NumPy array of {self._dtype}, which is not of numbers")
        if len(self._shape) not in (2, 3) or min(self._shape) < 1:
            raise NotReadError(
                f"a NumPy array of shape {self._shape}: an image is (H, W), (H, W, bands) or (bands, H, W)"
            )
        self._bands_first = len(self._shape) == 3 and self._shape[0] < self._shape[2]
        high, wide = self._shape[1:] if self._bands_first else self._shape[:2]
        self.size = (wide, high)
        if not self._in_zip:
            end = self._stream.seek(0, io.SEEK_END)
            if end - self._start < math.prod(self._shape) * self._dtype.itemsize:
                raise ValueError("truncated: it ends before the last value")

    def about(self) -> About:
        """See `Opened.about`."""
        count = self.layout().count
        left_out = 0 if count in (1, 3, 4) else count - 1
        return About(f"NumPy arrays of {self._dtype}", self._dtype != np.uint8, left_out=left_out)

    def layout(self) -> Layout:
        """See `Opened.layout`."""
        if len(self._shape) == 2:
            return Layout(1)
        return Layout(self._shape[0 if self._bands_first else 2])

    def samples(self, bands: Sequence[int]) -> NDArray[Any]:
        """See `Opened.samples`."""
        count = math.prod(self._shape)
        if count * self._dtype.itemsize > _MOST_BYTES:
            raise NotReadError(f"a NumPy array of shape {self._shape}, more than is read at once")
        self._stream.seek(self._start)
        data = self._stream.read(count * self._dtype.itemsize)
        if len(data) < count * self._dtype.itemsize:
            raise ValueError("truncated: it ends before the last value")
        array = np.frombuffer(data, self._dtype).reshape(self._shape, order="F" if self._fortran else "C")
        array = array[..., None] if array.ndim == 2 else array
        return (np.moveaxis(array, 0, 2) if self._bands_first else array)[..., list(bands)]

    def in_parts(self) -> bool:
        """See `Opened.in_parts`: uncompressed, row by row."""
        return not self._in_zip and not self._fortran

    def part(self, bands: Sequence[int], box: Box) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """See `Opened.part`."""
        if not self.in_parts():
            return super().part(bands, box)
        top, left, high, wide = box
        width, height = self.size
        if self._bands_first:
            planes = [self._rows(band * height + top, high, width)[:, left : left + wide] for band in bands]
            return np.stack(planes, axis=2), None
        count = self.layout().count
        rows = self._rows(top, high, width * count).reshape(high, width, count)
        return rows[:, left : left + wide, list(bands)], None

    def _rows(self, first: int, count: int, length: int) -> NDArray[Any]:
        """Rows of `length` values each."""
        line = length * self._dtype.itemsize
        self._stream.seek(self._start + first * line)
        return np.frombuffer(self._stream.read(count * line), self._dtype).reshape(count, length)

    def read(self) -> Image.Image | Values:
        """See `Opened.read`. Values are those of a TIFF of the same numbers."""
        count = self.layout().count
        if count not in (1, 3):
            raise NotReadError(f"a NumPy array of {count} bands, which is no picture: pick 1 or 3 with --channels")
        found = self.samples(range(count))
        if found.dtype == bool:
            found = found.astype(np.uint8) * np.uint8(255)
        if found.dtype == np.uint8:
            return Image.fromarray(np.ascontiguousarray(found[..., 0] if count == 1 else found))
        return Values(found, None if found.dtype.kind == "f" else WIDE)


def _only_array(stream: BinaryIO) -> BinaryIO:
    """The one array of a .npz file, as a stream."""
    archive = zipfile.ZipFile(stream)
    names = [name for name in archive.namelist() if name.endswith(".npy")]
    if len(names) != 1:
        raise NotReadError(f"a .npz of {len(names)} arrays ({', '.join(names)[:80]}): write one image a file")
    return archive.open(names[0])  # pyright: ignore[reportReturnType]
