"""The list of tags at the start of a TIFF, read with limits, before a reader follows what it says."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value, by its type in the file."""

_LETTERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
MOST_TAGS = 4096
MOST_SEGMENTS = 1 << 18
_SEGMENT_TAGS = (273, 279, 324, 325)  # offsets and sizes of strips and tiles
_MEANINGS = frozenset(
    {256, 257, 258, 259, 262, 266, 277, 278, 284, 317, 320, 322, 323, 338, 339, 32997, *_SEGMENT_TAGS}
)
"""Tags without which a reader would take pixels for something else: they must be whole."""

_READ = frozenset({258, 259, 262, 266, 273, 284, 322, 338, 339, 32997})
"""Those of which `TiffDirectories.read` gives the values."""


class TiffDirectories:
    """The image file directories of a TIFF, classic or big, of either byte order.

    Raises ValueError if the header is not one.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._end = stream, stream.seek(0, io.SEEK_END)
        self._texts: dict[int, bytes] = {}
        head = self._at(0, 16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2]) if len(head) == 16 else None
        version = struct.unpack(f"{order}H", head[2:4])[0] if order else 0
        if version == 42:
            self._count, self._entry, self._offset = f"{order}H", f"{order}HHII", f"{order}I"
            self._first = struct.unpack(self._offset, head[4:8])[0]
        elif version == 43 and head[4:8] == struct.pack(f"{order}HH", 8, 0):
            self._count, self._entry, self._offset = f"{order}Q", f"{order}HHQQ", f"{order}Q"
            self._first = struct.unpack(self._offset, head[8:16])[0]
        else:
            raise ValueError("damaged: no header of a TIFF")

    def read(self) -> dict[int, tuple[int, ...]]:
        """Return short whole numbers of the first directory, by tag, of those in `_READ`; check all that matter.

        Raises ValueError if it claims more than its file can hold, or more than anyone needs.
        """
        found: dict[int, tuple[int, ...]] = {}
        room, claimed = struct.calcsize(self._offset), 0
        for tag, kind, count, offset in struct.iter_unpack(self._entry, self._entries()):
            needed = count * _SIZES.get(kind, 0)
            claimed += needed if needed <= self._end else 0  # a reader leaves out what reaches beyond the file
            if tag in _MEANINGS:
                if not needed or (needed > room and not 8 <= offset <= self._end - needed):
                    raise ValueError(f"damaged: the value of its tag {tag} is not there")
                if count > MOST_SEGMENTS and tag in _SEGMENT_TAGS:
                    raise ValueError(f"{count} strips or tiles, more than {MOST_SEGMENTS}")
                if tag in _READ and count <= 16 and kind in _LETTERS:
                    value = self._value(offset, needed, room)
                    found[tag] = struct.unpack(f"{self._offset[0]}{count}{_LETTERS[kind]}", value)
            elif kind == 2 and tag > 32767:
                self._texts[tag] = self._value(offset, min(needed, 64), room)
        if claimed > 2 * self._end + (1 << 16):
            raise ValueError("damaged: its tags claim more than the file holds")
        return found

    def _entries(self) -> bytes:
        """The entries of the first directory, in one read if there are few."""
        ahead, size = struct.calcsize(self._count), struct.calcsize(self._entry)
        start = self._at(self._first, ahead + 64 * size)
        if len(start) < ahead:
            raise ValueError("damaged: its directory of tags lies beyond its end")
        tags = struct.unpack_from(self._count, start)[0]
        if tags > MOST_TAGS:
            raise ValueError(f"damaged: {tags} tags in its directory")
        end = ahead + tags * size
        listed = start if end <= len(start) else self._at(self._first, end)
        if len(listed) < end:
            raise ValueError("damaged: its directory of tags is cut short")
        return listed[ahead:end]

    def text(self, tag: int) -> str:
        """Return the text of a tag of the first directory, at most 64 characters of it; empty if it has none."""
        return self._texts.get(tag, b"").split(b"\0")[0].decode("latin-1")

    def pages(self, most: int = 100_000) -> int:
        """Count the directories that are chained, up to `most`; a chain that leads back ends there."""
        return sum(1 for _ in self._chain(most))

    def _chain(self, most: int) -> Iterator[int]:
        seen: set[int] = set()
        at = self._first
        while at and at not in seen and len(seen) < most:
            seen.add(at)
            yield at
            try:
                tags = self._number(self._count, at)
                at = self._number(self._offset, at + struct.calcsize(self._count) + tags * struct.calcsize(self._entry))
            except ValueError:
                return

    def _value(self, offset: int, size: int, room: int) -> bytes:
        """The bytes of a value, which stand in place of its offset if there is room for them."""
        return struct.pack(self._offset, offset)[:size] if size <= room else self._at(offset, size)

    def _number(self, form: str, at: int) -> int:
        found = self._at(at, struct.calcsize(form))
        if len(found) < struct.calcsize(form):
            raise ValueError("damaged: its directory of tags lies beyond its end")
        return struct.unpack(form, found)[0]

    def _at(self, offset: int, size: int) -> bytes:
        if offset > self._end:
            return b""
        self._stream.seek(offset)
        return self._stream.read(min(size, self._end - offset))
