"""Decode one file to an array of pixels, or give the reason why not.

What the values of a decoded image mean, for each format of a file:

- 8 bits a channel, grey or RGB. CMYK, YCbCr and palettes are converted by Pillow.
- 16-bit grey (and integer grey of 32 bits) is scaled by 1/257 from 0..65535, values outside are
  clipped. The scale is fixed, so images of one set stay comparable.
- Float grey has no agreed range: each image is stretched from its own smallest to its own
  largest finite value. NaN becomes black.
- Transparent images are composited over white. The colours under fully transparent pixels are
  arbitrary leftovers of the program that wrote the file, so dropping the alpha channel would
  train on content that is never visible; opaque pixels keep their exact values.
- Images are turned upright by their EXIF orientation. Animations give their first frame.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

# The last two are imported for what they register: Pillow would load all of its forty plugins to
# find them.
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

from convnextv2.errors import BadImageError, UserError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")
"""Formats that are decoded, detected from the content of a file, not from its name."""

MAX_PIXELS = 100_000_000
"""Default limit of width times height; larger images are not decoded."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    path: str | Path, *, channels: int = 3, max_pixels: int = MAX_PIXELS, min_side: int | None = None
) -> NDArray[np.uint8]:
    """Decode one image.

    Args:
        path: a JPEG, PNG, WebP, TIFF, GIF or BMP file, whatever its name ends with.
        channels: 1 for grey, 3 for RGB.
        max_pixels: largest width times height; checked before any pixel is decoded.
        min_side: lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size (much faster) as long as
            its shorter side keeps at least this many pixels. None decodes the full size.

    Returns:
        uint8 array (H, W, channels), 0 to 255, contiguous and writable.

    Raises:
        BadImageError: the file is missing, empty, damaged, truncated, too large or not an image.
        UserError: `channels` is neither 1 nor 3.
    """
    check_channels(channels)
    with _opened(path, max_pixels, min_side) as image:
        return _pixels(_upright(image), channels)


def header_pixels(path: str | Path, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None) -> int:
    """Return the number of pixels that `decode` would give for these arguments, from the header only.

    Raises:
        BadImageError: with the reason that `decode` would give, if the header is at fault.
    """
    with _opened(path, max_pixels, min_side) as image:
        return image.width * image.height


def check_channels(channels: int) -> None:
    """Raise UserError unless `channels` is a number of channels that an image file can give."""
    if channels not in (1, 3):
        raise UserError(f"{channels} channels requested: folders of images give 1 (grey) or 3 (RGB)")


@contextmanager
def _opened(path: str | Path, max_pixels: int, min_side: int | None) -> Iterator[Image.Image]:
    """Open an image with its header read and checked; any failure inside is a BadImageError."""
    try:
        with _PILLOW, _stream(path) as stream, Image.open(stream, formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise BadImageError(
                    path,
                    f"{width} x {height} = {width * height} pixels, more than {max_pixels}"
                    " (raise --max-pixels to allow it)",
                )
            if min_side is not None:
                # For a JPEG, the largest power of two that leaves both sides long enough; for
                # every other format, nothing.
                image.draft(None, (min_side, min_side))
            yield image
    except BadImageError:
        raise
    except Exception as error:  # decoders of damaged files raise nearly every type there is
        raise BadImageError(path, _reason(error)) from error


def _stream(path: str | Path) -> BinaryIO:
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise BadImageError(path, "a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise BadImageError(path, "not a regular file")  # opening a pipe would block forever
    if status.st_size == 0:
        raise BadImageError(path, "an empty file")
    # A stream, not a path: given a path, Pillow maps uncompressed pixels into memory, and a file
    # that shrinks meanwhile would kill the process.
    return open(path, "rb")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not an image, or damaged at its start (supported are {', '.join(FORMATS)})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = " ".join(str(error).split())[:200]
    if isinstance(error, OSError | SyntaxError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _upright(image: Image.Image) -> Image.Image:
    """Decode the pixels and apply the EXIF orientation (Pillow has already done so for TIFF)."""
    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # broken EXIF does not spoil the pixels
        return image
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _pixels(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):
        image = Image.fromarray(_from_16_bits(np.asarray(image)))
    elif image.mode == "F":
        image = Image.fromarray(_from_floats(np.asarray(image)))
    elif image.has_transparency_data:
        image = _over_white(image)
    flat = image.convert("L" if channels == 1 else "RGB")
    return np.array(flat, dtype=np.uint8).reshape(flat.height, flat.width, channels)


def _from_16_bits(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    return ((np.clip(values, 0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_floats(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    finite = values[np.isfinite(values)].astype(np.float64)
    if finite.size == 0 or finite.min() == finite.max():
        return np.zeros(values.shape, np.uint8)
    low, high = finite.min(), finite.max()
    stretched = (np.clip(values.astype(np.float64), low, high) - low) * (255 / (high - low))
    return np.nan_to_num(np.rint(stretched), nan=0).astype(np.uint8)


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # premultiplied grey converts to nothing but plain grey with alpha
        image = image.convert("LA")
    image = image.convert("RGBA")
    page = Image.new("RGB", image.size, (255, 255, 255))
    page.paste(image, mask=image)
    return page


class _PillowSettings:
    """A context in which Pillow does not warn and applies no size limit of its own.

    Both settings are global to the process, so threads that decode at the same time share one
    change, made by the first in and undone by the last out.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._undo = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._undo.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"PIL\.")
                self._undo.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                Image.MAX_IMAGE_PIXELS = None
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._undo.close()


_PILLOW = _PillowSettings()
