"""JPEG, PNG, WebP, GIF, BMP, AVIF and JPEG 2000 of 8 bits, and the kinds of TIFF that Pillow converts, by Pillow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

# The plugins are imported for what they register: Pillow would load all of its forty to find them.
from PIL import ExifTags, Image, Jpeg2KImagePlugin, TiffImagePlugin, WebPImagePlugin, features  # noqa: F401

from convnextv2.data.files.decoders.metadata import without_metadata
from convnextv2.data.files.decoders.opened import About, Opened
from convnextv2.data.files.palette import is_grey, is_ramp
from convnextv2.data.files.raster import Layout
from convnextv2.data.files.values import WIDE, Values

try:
    from PIL import AvifImagePlugin

    READS_AVIF = AvifImagePlugin.SUPPORTED
except ImportError:  # Pillow 11.0 to 11.2
    READS_AVIF = False
READS_JPEG_2000 = features.check_codec("jpg_2000")

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000")
"""Formats that Pillow is asked for, whatever else it can read."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image of an EXIF orientation upright."""

T = TypeVar("T")


class PillowImage(Opened):
    """An image that Pillow reads.

    Where metadata (texts, colour profiles) keep Pillow from it, it is read without them: they do not spoil pixels.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._min_side, self._stripped = stream, 0, False
        self._image = self._or_without_metadata(self._open)

    @property
    def size(self) -> tuple[int, int]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Width and height."""
        return self._image.size

    def draft(self, min_side: int) -> None:
        """See `Opened.draft`."""
        self._min_side = min_side
        self._image.draft(None, (min_side, min_side))

    def about(self) -> About:
        """See `Opened.about`."""
        image = self._image
        kind = f"{image.format}, {_BITS.get(image.mode, '8 bits')}"
        return About(kind, wide=image.mode[0] in "IF", ramp=image.mode == "P" and is_ramp(image))

    def read(self) -> Image.Image | Values:
        """See `Opened.read`."""
        image = self._or_without_metadata(self._upright)
        if image.mode[0] == "I":
            return Values(np.asarray(image)[..., None], WIDE)
        if image.mode == "F":
            return Values(np.asarray(image)[..., None], None)
        return image

    def layout(self) -> Layout:
        """See `Opened.layout`."""
        mode = self._bands_mode()
        count = {"LA": 2, "RGB": 3, "RGBA": 4}.get(mode, 1)
        return Layout(count, alpha=count - 1 if mode.endswith("A") else None)

    def upright_size(self) -> tuple[int, int]:
        """See `Opened.upright_size`."""
        width, height = self.size
        return (height, width) if self._orientation() in (5, 6, 7, 8) else (width, height)

    def samples(self, bands: Sequence[int]) -> NDArray[Any]:
        """See `Opened.samples`."""
        mode, image = self._bands_mode(), self._or_without_metadata(self._upright)
        if mode != "P" and image.mode != mode and not image.mode.startswith("I"):
            image = (image.convert("LA") if image.mode == "La" else image).convert(mode)
        found = np.asarray(image)
        return (found[..., None] if found.ndim == 2 else found)[..., list(bands)]

    def _bands_mode(self) -> str:
        """The mode of the image whose samples are its bands: palettes that are no ramp and coded colours become RGB."""
        image = self._image
        if image.mode == "P" and is_ramp(image):
            return "P"
        if image.mode == "P" and is_grey(image) and not image.has_transparency_data:
            return "L"
        if image.mode in ("1", "L", "I", "F", "RGB", "LA", "RGBA") and "transparency" not in image.info:
            return image.mode if image.mode != "1" else "L"
        if image.mode.startswith("I;"):
            return "I"
        if image.has_transparency_data:
            return "LA" if image.mode in ("La", "L", "1") else "RGBA"
        return "RGB"

    def _open(self) -> Image.Image:
        image = Image.open(self._stream, formats=FORMATS)
        if self._min_side:
            image.draft(None, (self._min_side, self._min_side))
        return image

    def _upright(self) -> Image.Image:
        """Decode the pixels and apply the EXIF orientation, which Pillow itself does for TIFF."""
        self._image.load()
        turn = TURNS.get(self._orientation())
        return self._image if turn is None else self._image.transpose(turn)

    def _orientation(self) -> int:
        """How the pixels are to be turned, by EXIF; 1 for not at all."""
        if self._image.format == "TIFF":
            return 1
        try:
            found = self._image.getexif().get(ExifTags.Base.Orientation)
        except Exception:  # broken EXIF does not spoil the pixels
            return 1
        return found if isinstance(found, int) else 1

    def _or_without_metadata(self, act: Callable[[], T]) -> T:
        """What `act` returns; if it fails, once more on the file without its metadata, if it has any."""
        try:
            return act()
        except Exception as error:
            stripped = None if self._stripped else without_metadata(self._stream)
            if stripped is None:
                raise
            self._stream, self._stripped = stripped, True
            try:
                self._image = self._open()
                return act()
            except Exception:
                raise error from None


_BITS = {"I": "32 bits", "F": "32 bits, float"} | dict.fromkeys(("I;16", "I;16B", "I;16L", "I;16N"), "16 bits")
