"""Image files as batches of a model's input: each once, in order, read once if they fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnextv2.data.files.decode import MAX_PIXELS
from convnextv2.data.files.folder import ImageList
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.data.loading.read_each import read_each
from convnextv2.engine import machine
from convnextv2.inference.predictor import InputSpec
from convnextv2.inference.settings import InferenceSettings


@dataclass(frozen=True)
class ImageBatch:
    """images: uint8 (B, C, size, size), those that could be read.  indices: int64 (B,), of the images in their list.

    bad: (index, reason) of those that could not.
    """

    images: Tensor
    indices: Tensor
    bad: tuple[tuple[int, str], ...]


class ImageReader:
    """The images of a list as a model sees them.

    keep: hold them in memory for the next pass, if they fit into an eighth of what is free.
    """

    def __init__(
        self,
        images: ImageList,
        spec: InputSpec,
        *,
        batch_size: int = 64,
        workers: int | None = None,
        max_pixels: int = MAX_PIXELS,
        keep: bool = False,
    ) -> None:
        self.images, self.spec = images, spec
        self.batch_size, self.workers, self.max_pixels = batch_size, workers, max_pixels
        self.bad: dict[int, str] = {}
        size = len(images) * spec.in_chans * spec.image_size**2
        self._keep = keep and size < machine.free_bytes(torch.device("cpu")) // 8
        self._kept: dict[Sequence[int], list[ImageBatch]] = {}
        self._fit = spec.fit

    @staticmethod
    def of(images: ImageList, spec: InputSpec, settings: InferenceSettings, *, keep: bool = False) -> ImageReader:
        """Return a reader with the settings of a verb."""
        return ImageReader(
            images,
            spec,
            batch_size=settings.batch_size,
            workers=settings.workers,
            max_pixels=settings.max_pixels,
            keep=keep,
        )

    def batches(self, indices: Sequence[int] | None = None) -> Iterator[ImageBatch]:
        """Yield every image at `indices` (by default all) once, in that order; unreadable ones are also in `bad`."""
        wanted = range(len(self.images)) if indices is None else indices
        wanted = wanted if isinstance(wanted, range) else tuple(wanted)
        if self._keep and wanted in self._kept:
            yield from self._kept[wanted]
            return
        kept = []
        for batch in self._read(wanted):
            self.bad |= dict(batch.bad)
            if self._keep:
                kept.append(batch)
            yield batch
        if self._keep:
            self._kept = {wanted: kept}

    def image(self, index: int) -> Tensor:
        """Return image `index` as the model sees it, uint8 (C, size, size). Raises BadImageError if unreadable."""
        dataset = ImageSet(self.images, self._transform, channels=self.spec.in_chans, max_pixels=self.max_pixels)
        return self._fit(dataset.read(index))

    def _transform(self, image: Tensor) -> dict[str, Tensor]:
        return {"images": self._fit(image)}

    def _read(self, indices: Sequence[int]) -> Iterator[ImageBatch]:
        empty = torch.zeros(0, self.spec.in_chans, self.spec.image_size, self.spec.image_size, dtype=torch.uint8)
        for batch in read_each(
            self.images,
            self._transform,
            indices,
            batch_size=self.batch_size,
            workers=worker_count(self.workers, -(-len(indices) // self.batch_size)),
            channels=self.spec.in_chans,
            max_pixels=self.max_pixels,
        ):
            yield ImageBatch(batch.tensors.get("images", empty), batch.indices, batch.bad)


def worker_count(workers: int | None, batches: int) -> int:
    """Return how many processes read so many batches: never more than can be busy beside the model.

    workers: the requested number; None for one per core less one, 1 to 8.
    """
    if workers is None:
        workers = min(max(1, machine.processors() - 1), 8)
    return min(workers, max(0, batches - 1))
