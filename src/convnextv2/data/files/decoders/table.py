"""Which decoder reads a file: one table, by the content of the file and not by its name, but for whole slides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from convnextv2.data.files.decoders.arrays import ArrayFile, is_array
from convnextv2.data.files.decoders.dicom import is_dicom, open_dicom
from convnextv2.data.files.decoders.heic import is_heic, open_heic
from convnextv2.data.files.decoders.jpeg2000 import is_jpeg2000, open_jpeg2000
from convnextv2.data.files.decoders.opened import NotReadError, Opened
from convnextv2.data.files.decoders.others import known_kind
from convnextv2.data.files.decoders.pillow import READS_AVIF, PillowImage
from convnextv2.data.files.decoders.png import WidePng, is_wide_png
from convnextv2.data.files.decoders.slide import is_slide, open_slide
from convnextv2.data.files.decoders.tiff import is_tiff, open_tiff

SUPPORTED = "JPEG, PNG, WebP, TIFF, GIF, BMP, AVIF, HEIC, JPEG 2000, DICOM, NumPy arrays, whole slides"

_HEAD = 512


@dataclass(frozen=True)
class Decoder:
    """recognises: whether a file is its, from the first bytes.  open: reads the header of a file at its start."""

    recognises: Callable[[bytes], bool]
    open: Callable[[BinaryIO], Opened]


def _is_pillows(head: bytes) -> bool:
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"MM*\0", b"II\0*"))
        or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
    )  # fmt: skip


def _is_avif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")


def _open_avif(stream: BinaryIO) -> Opened:
    if not READS_AVIF:
        raise NotReadError(
            "AVIF, which this Pillow was built without: install Pillow 11.3 or newer, or convert it to PNG"
        )
    return PillowImage(stream)


DECODERS: tuple[Decoder, ...] = (
    Decoder(is_dicom, open_dicom),  # some begin as TIFF does
    Decoder(is_wide_png, WidePng),
    Decoder(_is_pillows, PillowImage),
    Decoder(is_tiff, open_tiff),
    Decoder(is_jpeg2000, open_jpeg2000),
    Decoder(_is_avif, _open_avif),
    Decoder(is_heic, open_heic),
    Decoder(is_array, ArrayFile),
)
"""The first that recognises a file opens it."""


def open_image(stream: BinaryIO) -> Opened:
    """Open an image by its first bytes; only its header is read.

    Raises NotReadError for a file of another kind or of none; damaged headers raise whatever their reader does.
    """
    slide = open_slide(stream) if is_slide(stream) else None
    if slide is not None:
        return slide
    head = stream.read(_HEAD)
    stream.seek(0)
    for decoder in DECODERS:
        if decoder.recognises(head):
            return decoder.open(stream)
    raise NotReadError(known_kind(head) or f"not an image, or damaged at its start (supported are {SUPPORTED})")
