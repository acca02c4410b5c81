"""Decode one file to an array of pixels, or give the reason why not.

What the values of a decoded image mean:

- 8 bits a channel, grey or RGB, are what they are. Fewer bits are scaled to 0..255. CMYK, YCbCr, CIELab and palettes
  are converted.
- Integers of 16 bits and more are scaled by 1/257 from 0..65535; those of 9 to 15 bits from all that their bits can
  hold; signed ones of 8 bits are what they are. Values outside, so all negative ones, are clipped. The scale is fixed,
  so images of one set stay comparable.
- Floats have no agreed range: each image is stretched from its own smallest to its own largest finite value.
- With a value range, all of these (not 8 bits and fewer) are scaled from it instead: values below become 0, above 255.
  So is the index of a palette that runs evenly from dark to bright, as microscopes write it.
- NaN becomes black. Where a file says that zero is white (TIFF), it is.
- Transparent images are composited over white. The colours under fully transparent pixels are
  arbitrary leftovers of the program that wrote the file, so dropping the alpha channel would
  train on content that is never visible; opaque pixels keep their exact values.
- Images are turned upright by their EXIF orientation. Animations give their first frame, TIFF its first page.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from convnextv2.data.files.decoders.opened import NotReadError, Opened
from convnextv2.data.files.decoders.table import SUPPORTED, open_image
from convnextv2.data.files.palette import is_ramp
from convnextv2.data.files.values import ValueRange, Values
from convnextv2.errors import BadImageError, UserError

T = TypeVar("T")

MAX_PIXELS = 100_000_000
"""Default limit of width times height; larger images are not decoded."""


def decode(
    path: str | Path,
    *,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    min_side: int | None = None,
    value_range: ValueRange | None = None,
) -> NDArray[np.uint8]:
    """Decode one image.

    Args:
        path: a JPEG, PNG, WebP, TIFF, GIF, BMP, AVIF, HEIC, JPEG 2000 or DICOM file, whatever its name ends with.
        channels: 1 for grey, 3 for RGB.
        max_pixels: largest width times height; checked before any pixel is decoded.
        min_side: lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size (much faster) as long as
            its shorter side keeps at least this many pixels. None decodes the full size.
        value_range: the values that become black and white, for files of more than 8 bits.

    Returns:
        uint8 array (H, W, channels), 0 to 255, contiguous and writable.

    Raises:
        BadImageError: the file is missing, empty, damaged, truncated, too large or not an image.
        UserError: `channels` is neither 1 nor 3.
    """
    check_channels(channels)
    with opened(path, max_pixels, min_side) as image:
        return to_pixels(image.read(), channels, value_range)


def header_pixels(path: str | Path, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None) -> int:
    """Return the number of pixels that `decode` would give for these arguments, from the header only.

    Raises:
        BadImageError: with the reason that `decode` would give, if the header is at fault.
    """
    with opened(path, max_pixels, min_side) as image:
        return image.size[0] * image.size[1]


def check_channels(channels: int) -> None:
    """Raise UserError unless `channels` is a number of channels that an image file can give."""
    if channels not in (1, 3):
        raise UserError(f"{channels} channels requested: folders of images give 1 (grey) or 3 (RGB)")


def opened(
    path: str | Path, max_pixels: int = MAX_PIXELS, min_side: int | None = None
) -> AbstractContextManager[Opened]:
    """Open an image file with its header read and checked; any failure inside is a BadImageError."""
    return opening(path, lambda: _stream(path), open_image, max_pixels, min_side)


@contextmanager
def opening(
    path: str | Path,
    source: Callable[[], AbstractContextManager[T]],
    read_header: Callable[[T], Opened],
    max_pixels: int = MAX_PIXELS,
    min_side: int | None = None,
) -> Iterator[Opened]:
    """Open `source`, read its header and check its size; any failure inside is a BadImageError that names `path`."""
    try:
        with _PILLOW, source() as content:
            image = read_header(content)
            width, height = image.size
            if width * height > max_pixels:
                parts = ", or read parts of it: --crops-per-image in pretrain, --tile in embed and predict"
                raise BadImageError(
                    path,
                    f"{width} x {height} = {width * height} pixels, more than {max_pixels}"
                    f" (raise --max-pixels to allow it{parts if image.in_parts() else ''})",
                )
            if min_side is not None:
                image.draft(min_side)
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
        return f"not an image, or damaged at its start (supported are {SUPPORTED})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = " ".join(str(error).split())[:200]
    if isinstance(error, OSError | SyntaxError | NotReadError | ValueError) and text:
        return text
    return f"damaged, or of a kind that is not read ({type(error).__name__}{': ' * bool(text)}{text})"


def to_pixels(image: Image.Image | Values, channels: int, value_range: ValueRange | None = None) -> NDArray[np.uint8]:
    """Return what `Opened.read` gives as uint8 (H, W, channels), contiguous and writable.

    channels: 1 or 3.  value_range: see `decode`.
    """
    if isinstance(image, Image.Image) and image.mode == "P" and value_range is not None and is_ramp(image):
        image = Values(np.asarray(image)[..., None], None)
    if isinstance(image, Values):
        found = image.to_bytes(value_range)
        if found.shape[2] == channels:
            return np.ascontiguousarray(found)
        image = Image.fromarray(found[..., 0] if found.shape[2] == 1 else found)
    elif image.has_transparency_data:
        image = _over_white(image)
    mode = "L" if channels == 1 else "RGB"
    flat = image if image.mode == mode else image.convert(mode)  # convert would copy
    return np.array(flat, dtype=np.uint8).reshape(flat.height, flat.width, channels)


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
        self._limit = Image.MAX_IMAGE_PIXELS
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._warnings = warnings.catch_warnings()
                self._warnings.__enter__()
                warnings.filterwarnings("ignore", module=r"(PIL|pydicom)\.")
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                Image.MAX_IMAGE_PIXELS = self._limit
                self._warnings.__exit__(None, None, None)


_PILLOW = _PillowSettings()
