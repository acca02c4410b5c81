"""PNG of 16 bits a channel with colour or alpha, which Pillow cuts to 8 bits, by libpng (imagecodecs)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnextv2.data.files.decoders.metadata import png_chunks
from convnextv2.data.files.decoders.opened import About, Opened
from convnextv2.data.files.raster import Layout
from convnextv2.data.files.turns import turned
from convnextv2.data.files.values import WIDE, Values, alpha_of

_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def is_wide_png(head: bytes) -> bool:
    """Whether the first 26 bytes are of a PNG of 16 bits with colour or alpha."""
    return head[12:16] == b"IHDR" and head[24:25] == b"\x10" and head[25:26] in (b"\2", b"\4", b"\6")


class WidePng(Opened):
    """See the module."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        stream.seek(16)
        self.size = struct.unpack(">II", stream.read(8))

    def about(self) -> About:
        """See `Opened.about`."""
        return About("PNG, 16 bits", wide=True)

    def read(self) -> Image.Image | Values:
        """See `Opened.read`."""
        samples = self._samples()
        colours = samples.shape[2] - 1 if samples.shape[2] in (2, 4) else samples.shape[2]
        alpha = alpha_of(samples[..., -1], 16) if colours < samples.shape[2] else None
        return Values(samples[..., :colours], WIDE, alpha=alpha)

    def layout(self) -> Layout:
        """See `Opened.layout`."""
        self._stream.seek(25)
        count = {2: 3, 4: 2, 6: 4}[self._stream.read(1)[0]]
        return Layout(count, alpha=count - 1 if count != 3 else None)

    def samples(self, bands: Sequence[int]) -> NDArray[Any]:
        """See `Opened.samples`."""
        return self._samples()[..., list(bands)]

    def _samples(self) -> NDArray[Any]:
        """All samples, (H, W, S). Metadata other than the orientation are skipped, however large."""
        import imagecodecs

        chunks = [bytes(self._part(0, 8))]
        orientation = 1
        for kind, start, size in list(png_chunks(self._stream)):
            if kind in _PIXELS:
                chunks.append(self._part(start, size))
            elif kind == b"eXIf":
                orientation = _orientation(self._part(start + 8, min(size - 12, 1 << 16)))
        return turned(np.asarray(imagecodecs.png_decode(b"".join(chunks))), orientation)

    def _part(self, start: int, size: int) -> bytes:
        self._stream.seek(start)
        return self._stream.read(size)


def _orientation(exif: bytes) -> int:
    try:
        found = Image.Exif()
        found.load(exif)
        return int(found.get(0x0112, 1))
    except Exception:  # broken EXIF does not spoil the pixels
        return 1
