"""Images that a program holds or makes, in the place of files: arrays, tensors, PIL images, and datasets of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convnextv2.data.files.decode import MAX_PIXELS, opening, to_pixels
from convnextv2.data.files.decoders.in_memory import open_item
from convnextv2.data.files.decoders.opened import Opened
from convnextv2.data.files.values import Values


class Indexable(Protocol):
    """What is read by index: a list, a stack of arrays, or a map-style dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class ImagesInMemory:
    """Images read by index whenever one is needed, here or in a forked process.

    items: gives, for an index, what `open_item` takes; the same image each time.
    indices: int64 (N,), which of them, in order.
    """

    items: Indexable
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def at(self, indices: Sequence[int] | NDArray[np.integer]) -> ImagesInMemory:
        """Return the images at `indices`, in that order."""
        return ImagesInMemory(self.items, self.indices[np.asarray(indices, np.int64)])

    def open(
        self, index: int, max_pixels: int = MAX_PIXELS, min_side: int | None = None
    ) -> AbstractContextManager[Opened]:
        """Open image `index`; any failure inside, also of the dataset, is a BadImageError."""
        place = int(self.indices[index])
        return opening(f"image {place}", lambda: nullcontext(self.items[place]), open_item, max_pixels, min_side)

    def digest(self, index: int) -> str:
        """Return the size and a hash of the pixels of an image, "W x H pixels, ...". Raises BadImageError."""
        with self.open(index) as image:
            content = image.read()
            pixels = content.colour if isinstance(content, Values) else to_pixels(content, 3)
            found = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:16]
            return f"{image.size[0]} x {image.size[1]} pixels, {found}"
