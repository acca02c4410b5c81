"""Values that recur, such as labels and groups: each kept once, and an integer wherever it stands."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=Hashable)


class Categorical(Sequence[T]):
    """An immutable sequence of N values, many of them the same; equal to any sequence of the same values.

    categories: every value that occurs, once.  codes: int32 (N,), where in `categories` each value is.
    """

    __slots__ = ("categories", "codes")

    categories: tuple[T, ...]
    codes: NDArray[np.int32]

    def __init__(self, values: Iterable[T]) -> None:
        """Take the values from an iterable, which need not hold them all at once."""
        numbers: dict[T, int] = {}
        codes = array("i", (numbers.setdefault(value, len(numbers)) for value in values))
        self.categories, self.codes = tuple(numbers), np.frombuffer(codes, np.int32)

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice | NDArray[np.integer]) -> Categorical[T]: ...

    def __getitem__(self, index: int | slice | NDArray[np.integer]) -> T | Categorical[T]:
        """Return one value; or those of a slice, or at an array of indices (M,)."""
        if not isinstance(index, slice) and not (isinstance(index, np.ndarray) and index.ndim):
            return self.categories[self.codes[operator.index(index)]]
        taken: Categorical[T] = Categorical(())
        used, codes = np.unique(self.codes[index], return_inverse=True)
        taken.categories, taken.codes = tuple(self.categories[code] for code in used), codes.astype(np.int32)
        return taken

    def __iter__(self) -> Iterator[T]:
        return map(self.categories.__getitem__, self.codes.data)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sequence) and not isinstance(other, str):
            return len(self) == len(other) and all(map(operator.eq, self, other))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))
