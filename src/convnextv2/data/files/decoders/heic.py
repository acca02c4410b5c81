"""HEIC, what telephones write, by libheif (pi-heif, an extra)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnextv2.data.files.decoders.opened import About, NotReadError, Opened
from convnextv2.data.files.raster import Layout
from convnextv2.data.files.values import WIDE, Values, alpha_of

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def is_heic(head: bytes) -> bool:
    """Whether the first bytes are of a HEIF file with images of HEVC."""
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS


def open_heic(stream: BinaryIO) -> Opened:
    """Open a HEIC file. Raises NotReadError where its reader is not installed."""
    try:
        import pi_heif
    except ImportError as error:
        raise NotReadError("HEIC: install its reader with `pip install convnextv2[heic]`") from error
    file = pi_heif.open_heif(stream, convert_hdr_to_8bit=False)
    return HeicImage(file[file.primary_index])


class HeicImage(Opened):
    """The main image of the file, turned upright; 10 and 12 bits are scaled to 16."""

    def __init__(self, image: Any) -> None:
        """image: of pi_heif."""
        self._image = image
        self.size = (int(image.size[0]), int(image.size[1]))

    def about(self) -> About:
        """See `Opened.about`."""
        wide = self._wide()
        return About(f"HEIC, {'more than 8' if wide else '8'} bits", wide=wide)

    def _wide(self) -> bool:
        return ";16" in self._image.mode

    def read(self) -> Image.Image | Values:
        """See `Opened.read`."""
        found, alpha = self._decoded(), self.layout().alpha
        if not self._wide():
            return Image.fromarray(found[..., 0] if found.shape[2] == 1 else found)
        colour = found if alpha is None else found[..., :alpha]
        return Values(colour, WIDE, alpha=None if alpha is None else alpha_of(found[..., alpha], 16))

    def layout(self) -> Layout:
        """See `Opened.layout`."""
        count = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}.get(self._mode())
        if count is None:
            raise NotReadError(f"HEIC of {self._image.mode}, a kind that is not read: convert it to PNG")
        return Layout(count, alpha=count - 1 if self._mode().endswith("A") else None)

    def _mode(self) -> str:
        return self._image.mode.partition(";")[0].replace("a", "A")

    def samples(self, bands: Sequence[int]) -> NDArray[Any]:
        """See `Opened.samples`."""
        return self._decoded()[..., list(bands)]

    def _decoded(self) -> NDArray[Any]:
        found = np.asarray(self._image)
        return found.reshape(*found.shape[:2], -1)
