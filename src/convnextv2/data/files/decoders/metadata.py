"""A file without its metadata, for the case that Pillow refuses pixels because of texts or a colour profile."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_METADATA = frozenset(
    {
        *(b"tEXt", b"zTXt", b"iTXt", b"tIME", b"dSIG", b"caBX"),
        *(b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"mDCV", b"cLLI", b"sBIT", b"bKGD", b"hIST", b"sPLT"),
        *(b"pHYs", b"oFFs", b"pCAL", b"sCAL", b"sTER", b"gIFg", b"gIFx", b"vpAg", b"iDOT"),
        *(b"acTL", b"fcTL", b"fdAT"),  # of an animation, of which the still image is the first
    }
)
_LARGEST_EXIF = 1 << 20


def png_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, offset of its first byte, bytes with length, kind and checksum) of a PNG's chunks; none is read."""
    end = stream.seek(0, io.SEEK_END)
    at = len(PNG_SIGNATURE)
    while at + 12 <= end:
        stream.seek(at)
        length, kind = struct.unpack(">I4s", stream.read(8))
        yield kind, at, length + 12
        at += length + 12


def without_metadata(stream: BinaryIO) -> BinaryIO | None:
    """Return the same image without metadata, except its EXIF orientation; None if it has none or is another format.

    Only pixels are copied, so the memory it takes is at most that of the file without its metadata.
    """
    stream.seek(0)
    head = stream.read(12)
    if head.startswith(PNG_SIGNATURE):
        parts = _png_parts(stream)
    elif head.startswith(b"\xff\xd8"):
        parts = _jpeg_parts(stream)
    else:
        parts = None
    stream.seek(0)
    if parts is None:
        return None
    kept = io.BytesIO()
    for start, size in parts:
        stream.seek(start)
        kept.write(stream.read(size))
    stream.seek(0)
    kept.seek(0)
    return kept


Part = tuple[int, int]
"""Offset and length of bytes to keep."""


def _png_parts(stream: BinaryIO) -> list[Part] | None:
    kept, dropped = [(0, len(PNG_SIGNATURE))], False
    for kind, start, size in png_chunks(stream):
        if kind in _PNG_METADATA or (kind == b"eXIf" and size > _LARGEST_EXIF):
            dropped = True
        else:
            kept.append((start, size))
    return kept if dropped else None


def _jpeg_parts(stream: BinaryIO) -> list[Part] | None:
    """Drops comments and application segments, but keeps EXIF and what says how colours are coded (JFIF, Adobe)."""
    kept, dropped, at = [(0, 2)], False, 2
    end = stream.seek(0, io.SEEK_END)
    while at + 4 <= end:
        stream.seek(at)
        mark, marker, length = struct.unpack(">BBH", stream.read(4))
        if mark != 0xFF or length < 2:
            return None
        if marker == 0xDA:  # the pixels begin
            return [*kept, (at, end - at)] if dropped else None
        start = stream.read(6)
        is_metadata = marker == 0xFE or 0xE0 <= marker <= 0xEF
        is_needed = (
            (marker == 0xE0 and start.startswith(b"JFIF\0") and length >= 16)
            or (marker == 0xEE and start.startswith(b"Adobe") and length >= 14)
            or (marker == 0xE1 and start.startswith(b"Exif\0"))
        )
        if is_metadata and not is_needed:
            dropped = True
        else:
            kept.append((at, length + 2))
        at += length + 2
    return None
