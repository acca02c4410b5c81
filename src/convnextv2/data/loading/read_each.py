"""Images in a given order, each exactly once: what inference reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch.utils.data import Dataset

from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.reading import RGB, Reading
from convnextv2.data.loading.batch import Batch, Sample, Unreadable
from convnextv2.data.loading.image_set import ImageSet, Targets, Transform
from convnextv2.data.loading.loader import make_loader
from convnextv2.errors import BadImageError


def read_each(
    images: ImageList,
    transform: Transform,
    indices: Sequence[int],
    *,
    batch_size: int,
    workers: int,
    reading: Reading = RGB,
    pin_memory: bool = False,
    targets: Targets | None = None,
) -> Iterator[Batch]:
    """Read and transform every image at `indices` once, in that order, `batch_size` at a time.

    An image that cannot be read is in `Batch.bad` of its batch, as (index, reason), and in no tensor; no other image
    replaces it. A batch without a readable image has no tensors. Unreadable files never raise.

    Args:
        images: the files.
        transform: as for `ImageSet`, with its random numbers seeded for each image (epoch 0, seed 0).
        indices: into `images`; a repeated one is read again.
        batch_size: images per batch, readable or not; the last may be smaller.
        workers: processes that decode, as for `make_loader`.
        reading: how they are decoded.
        pin_memory: put the tensors in page-locked memory, for a GPU.
        targets: as for `ImageSet`; an image whose target cannot be read is bad.
    """
    dataset = ImageSet(images, transform, reading=reading, targets=targets)
    return make_loader(
        _EachItself(dataset), _portions(indices, batch_size), workers=workers, pin_memory=pin_memory, images=images
    )


class _EachItself(Dataset[Sample | Unreadable]):
    """The images of a set by (0, index), without replacements."""

    def __init__(self, dataset: ImageSet) -> None:
        self._dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Sample | Unreadable:
        try:
            return self._dataset.exactly(key[1])
        except BadImageError as error:
            return Unreadable(key[1], error.reason)


def _portions(indices: Sequence[int], size: int) -> Iterator[list[tuple[int, int]]]:
    """What to read, batch by batch, without a list of it all."""
    for start in range(0, len(indices), size):
        yield [(0, int(index)) for index in indices[start : start + size]]
