"""Samples that depend only on (seed, epoch, index of the image).

How an image is cropped is the same for any number of workers, for any number of processes, and from
whichever step a run is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.raster import Window
from convnextv2.data.files.reading import RGB, Reading
from convnextv2.data.loading.batch import PerImage, Sample
from convnextv2.data.loading.cache import PixelCache, as_tensor
from convnextv2.data.loading.order import mix
from convnextv2.errors import BadImageError, RunFailedError
from convnextv2.text import shown

Transform = Callable[..., Mapping[str, Tensor | PerImage]]
"""From one image, (C, H, W), to named tensors: of the same shape for every image, or wrapped in `PerImage`.

Called with the image only, or with the image and its target if the `ImageSet` reads targets. It may draw from torch's
global generator, and must not write into the image it is given."""

Targets = Callable[[int], Any]
"""From an image's index to what is known of the image: a mask, boxes, a label, or just the index itself (`int`).

Called in the worker. It draws nothing, and raises BadImageError for a target that cannot be read."""


class ImageSet(Dataset[Sample]):
    """Images by (epoch, index), decoded and transformed.

    Before the transform runs, torch's global CPU generator is seeded from (seed, epoch, index);
    afterwards it is restored. An image that cannot be read, or whose target cannot, is replaced by the next readable
    one of the list, under the seed of the requested index.

    targets: read beside each image and handed to the transform after it; None for a transform of the image only.
    """

    def __init__(
        self,
        images: ImageList,
        transform: Transform,
        *,
        reading: Reading = RGB,
        seed: int = 0,
        cache: PixelCache | None = None,
        targets: Targets | None = None,
        crops: int = 1,
        window: int | None = None,
    ) -> None:
        """A `cache` is read before the files, and filled: make it with the same images and the same reading.

        crops: samples of each image in an epoch.  window: pixels on a side of a random part of the image, which the
        transform is given in place of the whole; of large files that are stored in parts, no more is decoded.
        """
        if cache is not None and (cache.images.names, cache.reading) != (images.names, reading):
            raise ValueError("the cache holds other images, or they are read otherwise")
        self.images = images
        self._transform = transform
        self._reading = reading
        self._seed = seed
        self._cache = cache
        self._targets = targets
        self.crops, self.window = crops, window
        self._known_bad: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.images) * self.crops

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Return the sample of (epoch, index); the image is `index // crops`.

        Raises:
            RunFailedError: none of the images can be read.
        """
        epoch, asked = key
        bad: list[tuple[int, str]] = []
        for step in range(len(self.images)):
            index = (asked // self.crops + step) % len(self.images)
            try:
                return self._transformed(self._read_all(index, epoch, asked), epoch, asked, index, bad)
            except BadImageError as error:  # or one that the transform can make nothing of
                bad.append((index, error.reason))
        first = f": {bad[0][1]} ({shown(self.images.path(bad[0][0]))})" if bad else ""
        raise RunFailedError(f"none of the {len(bad)} files in {shown(self.images.source)} can be read{first}")

    def exactly(self, index: int) -> Sample:
        """Return the sample of image `index` in epoch 0; no other image replaces it.

        Raises:
            BadImageError: it, or its target, cannot be read.
        """
        return self._transformed(self._read_all(index, 0, index), 0, index, index, [])

    def read(self, index: int, window: Window | None = None) -> Tensor:
        """Return image `index` as it is, (C, H, W): uint8, or in the format of its bands. Raises BadImageError.

        Where pixels of bands are missing, the image is float32, and they are NaN.

        window: a part of it; None for all.
        """
        if self._cache is not None and (kept := self._cache.get(index)) is not None:
            return kept if window is None else _part(kept, window)
        if index in self._known_bad:
            # A long row of bad files is walked again and again: decode each of them only once.
            raise BadImageError(self.images.path(index), self._known_bad[index])
        try:
            whole = window is None or self._fits(index)
            raster = self._reading.raster(self.images, index, None if whole else window)
        except BadImageError as error:
            self._known_bad[index] = error.reason
            raise
        if self._cache is not None and whole:
            self._cache.put(index, raster)
        found = as_tensor(raster)
        return _part(found, window) if whole and window is not None else found

    def _fits(self, index: int) -> bool:
        """Whether all of an image finds room in the cache, so that its other parts need not be decoded."""
        if self._cache is None:
            return False
        try:
            return self._reading.bytes_of(self.images, index) < self._cache.room
        except BadImageError:  # larger than may be decoded as a whole
            return False

    def _read_all(self, index: int, epoch: int, asked: int) -> tuple[Any, ...]:
        """What the transform is called with: the image, and its target if there are targets."""
        window = None
        if self.window is not None:
            drawn = torch.Generator().manual_seed(mix(self._seed, epoch, asked, *b"window"))
            y, x = torch.rand(2, generator=drawn).tolist()
            window = Window(y, x, self.window)
        image = self.read(index, window)
        return (image,) if self._targets is None else (image, self._targets(index))

    def _transformed(
        self, given: tuple[Any, ...], epoch: int, asked: int, index: int, bad: list[tuple[int, str]]
    ) -> Sample:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(mix(self._seed, epoch, asked))
            return Sample.of(self._transform(*given), index, bad)


def _part(image: Tensor, window: Window) -> Tensor:
    """A part of an image (C, H, W)."""
    top, left, high, wide = window.box(image.shape[1], image.shape[2])
    return image[:, top : top + high, left : left + wide]
