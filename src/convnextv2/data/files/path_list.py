"""Paths by the million: one buffer of bytes in place of one Python object for each."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import overload

import numpy as np
from numpy.typing import NDArray

_BLOCK = 2**14
"""Paths that are worked on at a time."""


class PathList(Sequence[str]):
    r"""An immutable sequence of paths that takes 9 bytes for each beside those of the path itself.

    A tuple of strings takes about 60 more, and much more in the processes of a loader: whoever reads a string writes
    its count of references, so the kernel copies the page that it lies on, for every worker. Here nothing is written.

    Layout: all paths in a row as UTF-8, undecodable bytes as they are (`surrogateescape`), each with a newline after
    it; and where each begins, int64 (N + 1,). A path may hold newlines of its own. Equal to any sequence of the same
    strings.
    """

    __slots__ = ("_bytes", "_starts")

    def __init__(self, paths: Iterable[str] = ()) -> None:
        """Take the paths from an iterable, which need not hold them all at once."""
        buffer, starts = bytearray(), array("q", [0])
        remaining = iter(paths)
        while block := list(islice(remaining, _BLOCK)):
            text = "\n".join([*block, ""]).encode(errors="surrogateescape")
            ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1
            if len(ends) != len(block):  # paths that hold newlines
                ends = np.cumsum([len(path.encode(errors="surrogateescape")) + 1 for path in block], dtype=np.int64)
            starts.frombytes((len(buffer) + ends).tobytes())
            buffer += text
        self._bytes, self._starts = np.frombuffer(buffer, np.uint8), np.frombuffer(starts, np.int64)

    @staticmethod
    def _of(buffer: NDArray[np.uint8], starts: NDArray[np.int64]) -> PathList:
        paths = PathList.__new__(PathList)
        paths._bytes, paths._starts = buffer, starts
        return paths

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice | NDArray[np.integer]) -> PathList: ...

    def __getitem__(self, index: int | slice | NDArray[np.integer]) -> str | PathList:
        """Return one path; or those of a slice, or at an array of indices (M,), as a `PathList`."""
        if isinstance(index, slice):
            return self._take(np.arange(len(self))[index])
        if isinstance(index, np.ndarray) and index.ndim:
            return self._take(index)
        number = operator.index(index)
        number += len(self) if number < 0 else 0
        if not 0 <= number < len(self):
            raise IndexError(f"path {number} of {len(self)}")
        start, stop = self._starts[number : number + 2].tolist()
        return self._bytes[start : stop - 1].tobytes().decode(errors="surrogateescape")

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _BLOCK):
            starts = self._starts[first : first + _BLOCK + 1].tolist()
            block = self._bytes[starts[0] : starts[-1]].tobytes()
            paths = block.decode(errors="surrogateescape").split("\n")
            if len(paths) == len(starts):  # and nothing behind the last newline
                yield from paths[:-1]
            else:  # paths that hold newlines
                yield from (self[number] for number in range(first, first + len(starts) - 1))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PathList):
            return np.array_equal(self._starts, other._starts) and np.array_equal(self._bytes, other._bytes)
        if isinstance(other, Sequence) and not isinstance(other, str):
            return len(self) == len(other) and all(map(operator.eq, self, other))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"PathList({[*islice(self, 3)]!r}{f' and {len(self) - 3} more' if len(self) > 3 else ''})"

    def __reduce__(self) -> tuple[object, ...]:
        return PathList._of, (self._bytes, self._starts)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the paths take."""
        return self._bytes.nbytes + self._starts.nbytes

    def joined(self) -> memoryview:
        r"""Return `"\n".join(paths)` as bytes, without a copy."""
        return self._bytes.data[:-1].toreadonly()

    def _take(self, indices: NDArray[np.integer]) -> PathList:
        begins, lengths = self._starts[:-1][indices], np.diff(self._starts)[indices]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        buffer = np.empty(starts[-1], np.uint8)
        for first in range(0, len(lengths), _BLOCK):  # one index a byte takes eight times the memory
            part = slice(first, first + _BLOCK)
            shifts = np.repeat(begins[part] - starts[:-1][part], lengths[part])
            here = slice(starts[first], starts[first] + len(shifts))
            buffer[here] = self._bytes[np.arange(here.start, here.stop) + shifts]
        return PathList._of(buffer, starts)
