"""All images decoded once and kept in memory that worker processes share."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from convnextv2.data.files.decode import MAX_PIXELS, check_channels, decode, header_pixels
from convnextv2.data.files.folder import ImageList
from convnextv2.errors import BadImageError


class PixelCache:
    """The pixels of every image of a list, or the reason why there are none.

    The pixels lie in one anonymous shared mapping: worker processes forked later read the same
    memory, and no space on a file system (a container's small /dev/shm) is needed.
    """

    def __init__(
        self,
        images: ImageList,
        channels: int,
        pixels: list[int],
        reasons: dict[int, str],
        *,
        max_pixels: int,
        min_side: int | None,
    ) -> None:
        """Room for `pixels[i]` pixels of image i, not yet filled; see `decode_all`."""
        self.images = images
        self.channels = channels
        self.max_pixels, self.min_side = max_pixels, min_side
        self._reasons = reasons
        self._starts = np.cumsum([0, *pixels], dtype=np.int64) * channels
        self._shapes = np.zeros((len(images), 2), np.int64)
        self._flat = np.frombuffer(mmap.mmap(-1, max(1, self.nbytes)), np.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes set aside for pixels."""
        return int(self._starts[-1])

    @property
    def bad(self) -> list[tuple[int, str]]:
        """(index, reason) of every image that cannot be read."""
        return sorted(self._reasons.items())

    def get(self, index: int) -> Tensor:
        """Return image `index` as uint8 (C, H, W): a view of the cache, not to be written to.

        Raises:
            BadImageError: exactly when and as `decode` raises it.
        """
        if index in self._reasons:
            raise BadImageError(self.images.path(index), self._reasons[index])
        height, width = self._shapes[index].tolist()
        pixels = self._flat[self._starts[index] : self._starts[index + 1]]
        return torch.from_numpy(pixels).view(height, width, self.channels).permute(2, 0, 1)

    def _fill(self, index: int) -> None:
        """Decode image `index` into its place. Threads may do so at once, each for its own index."""
        path = self.images.path(index)
        try:
            image = decode(path, channels=self.channels, max_pixels=self.max_pixels, min_side=self.min_side)
        except BadImageError as bad:
            self._reasons[index] = bad.reason
            return
        start, stop = self._starts[index], self._starts[index + 1]
        if image.size != stop - start:
            self._reasons[index] = "the file changed while it was read"
            return
        self._flat[start:stop] = image.reshape(-1)
        self._shapes[index] = image.shape[:2]


def decode_all(
    images: ImageList,
    *,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    min_side: int | None = None,
    budget_bytes: int,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> PixelCache | None:
    """Decode every image of `images` into a `PixelCache`, if that fits.

    Headers are read first, so a set that is too large costs no decoding. A run with the cache
    reads the same pixels and the same bad files as a run without it.

    Args:
        images: the images.
        channels: 1 for grey, 3 for RGB.
        max_pixels: as for `decode`.
        min_side: as for `decode`.
        budget_bytes: most bytes of pixels to keep.
        threads: how many images are decoded at the same time.
        progress: called with (images done, images in all) after each image.

    Returns:
        The cache, or None if the pixels would take more than `budget_bytes`.
    """
    check_channels(channels)

    def measure(index: int) -> int | BadImageError:
        try:
            return header_pixels(images.path(index), max_pixels=max_pixels, min_side=min_side)
        except BadImageError as bad:
            return bad

    pixels = [0] * len(images)
    reasons: dict[int, str] = {}
    total = 0
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for index, size in enumerate(pool.map(measure, range(len(images)))):
            if isinstance(size, BadImageError):
                reasons[index] = size.reason
                continue
            pixels[index] = size
            total += size * channels
            if total > budget_bytes:
                pool.shutdown(cancel_futures=True)
                return None
        cache = PixelCache(images, channels, pixels, reasons, max_pixels=max_pixels, min_side=min_side)

        def fill(index: int) -> None:
            if index not in reasons:
                cache._fill(index)

        for done, _ in enumerate(pool.map(fill, range(len(images))), start=1):
            if progress is not None:
                progress(done, len(images))
    return cache
