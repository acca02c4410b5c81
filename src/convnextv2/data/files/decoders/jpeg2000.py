"""JPEG 2000 of more than 8 bits, which Pillow rescales or cuts, by OpenJPEG (imagecodecs)."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnextv2.data.files.decoders.opened import About, NotReadError, Opened
from convnextv2.data.files.decoders.pillow import READS_JPEG_2000, PillowImage
from convnextv2.data.files.raster import Layout
from convnextv2.data.files.values import Values, alpha_of

_START = b"\xff\x4f\xff\x51"
"""Where a codestream begins: its start, then the marker of its size."""


def is_jpeg2000(head: bytes) -> bool:
    """Whether the first bytes are of a JP2 file or of a bare codestream."""
    return head[4:12] == b"jP  \r\n\x87\n" or head.startswith(_START)


def open_jpeg2000(stream: BinaryIO) -> Opened:
    """Open a JP2 file or a bare codestream: by Pillow if it has 8 bits, else as `WideJpeg2000`."""
    if not READS_JPEG_2000:
        raise NotReadError("JPEG 2000, which this Pillow was built without: convert it to PNG or TIFF")
    stream.seek(_codestream(stream))
    found = stream.read(43)
    stream.seek(0)
    if not found.startswith(_START) or len(found) < 43:
        return PillowImage(stream)
    x1, y1, x0, y0 = struct.unpack(">4I", found[8:24])
    samples, depth = struct.unpack(">HB", found[40:43])
    bits, signed = (depth & 127) + 1, bool(depth & 128)
    return (
        WideJpeg2000(stream, (x1 - x0, y1 - y0), samples, bits, signed) if bits > 8 or signed else PillowImage(stream)
    )


def _codestream(stream: BinaryIO) -> int:
    """The offset of the codestream: the content of the box jp2c, or the start of the file."""
    at, end = 0, stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if stream.read(4) == _START:
        return 0
    while at + 8 <= end:
        stream.seek(at)
        length, kind = struct.unpack(">I4s", stream.read(8))
        header = 8
        if length == 1 and at + 16 <= end:
            length, header = struct.unpack(">Q", stream.read(8))[0], 16
        if kind == b"jp2c":
            return at + header
        if length < header:
            break
        at += length
    return end


class WideJpeg2000(Opened):
    """JPEG 2000 of `bits` bits a sample: grey, grey and alpha, RGB, or RGB and alpha."""

    def __init__(self, stream: BinaryIO, size: tuple[int, int], samples: int, bits: int, signed: bool) -> None:
        self._stream, self.size = stream, size
        self._samples, self._bits, self._signed = samples, bits, signed

    def about(self) -> About:
        """See `Opened.about`."""
        return About(f"JPEG 2000, {self._bits} bits{', signed' if self._signed else ''}", wide=True)

    def read(self) -> Image.Image | Values:
        """See `Opened.read`."""
        found = self._decoded()
        colours = found.shape[2] - (found.shape[2] in (2, 4))
        alpha = alpha_of(found[..., -1], self._bits) if colours < found.shape[2] else None
        return Values(found[..., :colours], (0, 2**self._bits - 1), alpha=alpha)

    def layout(self) -> Layout:
        """See `Opened.layout`."""
        return Layout(self._samples, alpha=self._samples - 1 if self._samples in (2, 4) else None)

    def samples(self, bands: Sequence[int]) -> NDArray[Any]:
        """See `Opened.samples`."""
        return self._decoded()[..., list(bands)]

    def _decoded(self) -> NDArray[Any]:
        """All samples, (H, W, S)."""
        import imagecodecs

        if not 1 <= self._samples <= 4 or self._bits > 16:
            raise NotReadError(f"JPEG 2000 of {self._samples} samples of {self._bits} bits, a kind that is not read")
        found = np.asarray(imagecodecs.jpeg2k_decode(self._stream.read()))
        if found.shape[:2] != self.size[::-1]:
            raise NotReadError("JPEG 2000 with samples of different sizes, a kind that is not read: write it as TIFF")
        return found.reshape(*found.shape[:2], -1)
