"""Decoded images kept in memory that all processes of a machine share, each from its first use on."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.raster import FORMATS, Raster
from convnextv2.data.files.reading import RGB, Reading
from convnextv2.data.loading.shared_memory import Address, SharedMemory
from convnextv2.errors import BadImageError

_HEAD = 16  # bytes
_SAMPLE = 1000
_SAMPLE_IN_MEMORY = 64  # a dataset makes the whole image to tell its size
_THREADS = 8


class PixelCache:
    """The pixels of the images of a list, as far as they were decoded and there is room for them.

    Whoever decodes an image first, such as a worker in the first epoch, puts it in; from then on all find it. What
    finds no room is decoded every time, so a run with the cache reads the same pixels as a run without it.

    Layout of the memory: int64 for the bytes that are taken; int64 (N,) for where each image lies, 0 if it is not
    there, negative while it is put in; then the images one after another. Before each stand its height and width, its
    format (an index into `FORMATS`) and 1 if it lacks pixels, all int32; of the latter the mask follows, a bit a pixel.
    """

    def __init__(self, images: ImageList, room: int | Address, reading: Reading = RGB) -> None:
        """Set aside room, or share that of another process.

        images: the images.
        room: bytes for pixels, of which only those in use take memory; or the `address` of a cache of the same images.
        reading: how they are decoded.

        Raises OSError if there is no such memory, or the other process cannot be reached.
        """
        self.images, self.reading = images, reading
        table = 8 * (1 + len(images))
        self._memory = SharedMemory.create(table + room) if isinstance(room, int) else SharedMemory.join(room)
        self._bytes = self._memory.bytes
        self._taken, self._starts = np.split(self._bytes[:table].view(np.int64), [1])
        if not self._taken[0]:
            self._taken[0] = table

    @property
    def address(self) -> Address:
        """What another process of this machine makes its cache with, to share the memory."""
        return self._memory.address

    @property
    def room(self) -> int:
        """Bytes that are left for pixels."""
        return len(self._bytes) - int(self._taken[0])

    def get(self, index: int) -> Tensor | None:
        """Return image `index` as `as_tensor` gives it, not to be written to: a view of the cache; None if absent."""
        start = int(self._starts[index])
        if start <= 0:
            return None
        height, width, number, incomplete = self._bytes[start : start + _HEAD].view(np.int32).tolist()
        shape, start = (height, width, self.reading.channels), start + _HEAD
        size = math.prod(shape) * np.dtype(FORMATS[number]).itemsize
        values = self._bytes[start : start + size].view(FORMATS[number]).reshape(shape)
        if not incomplete:
            return as_tensor(Raster(values))
        bits = self._bytes[start + size : start + size + -(-height * width // 8)]
        valid = np.unpackbits(bits, count=height * width).reshape(height, width).view(np.bool_)
        return as_tensor(Raster(values, valid))

    def put(self, index: int, raster: Raster) -> None:
        """Keep image `index`, (H, W, C), if there is room for it and it is not there."""
        values, valid = raster.values, raster.valid
        bits = None if valid is None else np.packbits(valid)
        size = _record_size(values.nbytes + (0 if bits is None else bits.size))
        if size > self.room:
            return
        with self._memory.locked():
            if size > self.room or self._starts[index]:
                return
            start = int(self._taken[0])
            self._taken[0] = start + size
            self._starts[index] = -start  # so that no other process puts it in too
        head = (*values.shape[:2], FORMATS.index(values.dtype.name), bits is not None)
        self._bytes[start : start + _HEAD].view(np.int32)[:] = head
        end = start + _HEAD + values.nbytes
        self._bytes[start + _HEAD : end] = values.reshape(-1).view(np.uint8)
        if bits is not None:
            self._bytes[end : end + bits.size] = bits
        with self._memory.locked():  # so that no processor sees the place before the pixels
            self._starts[index] = start


def expected_bytes(images: ImageList, reading: Reading = RGB) -> int:
    """Return how much room a `PixelCache` of all images takes, from the headers of `_SAMPLE` files.

    Exact for that many images or fewer. The arguments are those of `PixelCache`.
    """

    def measure(index: int) -> int:
        try:
            return _record_size(reading.bytes_of(images, index))
        except BadImageError:
            return 0

    count = _SAMPLE if images.held is None else _SAMPLE_IN_MEMORY
    sample = np.unique(np.linspace(0, len(images) - 1, count).round().astype(np.int64))
    if images.held is not None:  # which may not expect threads
        return -(-sum(map(measure, sample.tolist())) * len(images) // max(1, len(sample)))
    with ThreadPoolExecutor(_THREADS) as pool:  # most of the time is spent waiting for the disk
        return -(-sum(pool.map(measure, sample.tolist())) * len(images) // max(1, len(sample)))


def _record_size(size: int) -> int:
    """Bytes of an image of `size` bytes with what stands before it; whole int64."""
    return _HEAD + -(-size // 8) * 8


def as_tensor(raster: Raster) -> Tensor:
    """Return an image, (C, H, W), in its format; if pixels are missing as float32, in which they are NaN.

    A view of the values where possible.
    """
    values = torch.from_numpy(raster.values).permute(2, 0, 1)
    if raster.valid is None:
        return values
    return torch.where(torch.from_numpy(raster.valid), values.to(torch.float32), torch.nan)
