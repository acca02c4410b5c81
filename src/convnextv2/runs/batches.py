"""The batches of a run: which images each step sees, and how, follows from (seed, epoch, image) only."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping

from torch import Tensor

from convnextv2.data.loading.bad_images import BadImages
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.data.loading.loader import make_loader
from convnextv2.data.loading.order import GlobalBatches
from convnextv2.engine.distributed import DistributedContext
from convnextv2.records import TaskBatch
from convnextv2.text import shown


class TrainingBatches:
    """The micro-batches of one process, as `engine.task.Task.batches` gives them.

    dataset: reads and augments an image.  bad: records unreadable files.  weights: see `GlobalBatches`.
    targets: tensors by name for the images at some indices, int64 (B,), read in this process.
    """

    def __init__(
        self,
        dataset: ImageSet,
        *,
        batch_size: int,
        seed: int,
        workers: int,
        bad: BadImages,
        weights: Tensor | None = None,
        targets: Callable[[Tensor], Mapping[str, Tensor]] = lambda indices: {},
    ) -> None:
        self.dataset, self.bad = dataset, bad
        self._batch_size, self._seed, self._workers = batch_size, seed, workers
        self._weights, self._targets = weights, targets

    def __call__(
        self, start: int, stop: int, accumulate: int, context: DistributedContext
    ) -> Generator[TaskBatch, None, None]:
        """Yield the micro-batches of the optimiser steps [start, stop), in order."""
        order = GlobalBatches(
            len(self.dataset),
            self._batch_size,
            seed=self._seed,
            start_step=start,
            stop_step=stop,
            rank=context.rank,
            world_size=context.world_size,
            accumulate=accumulate,
            weights=self._weights,
        )
        images, pin = self.dataset.images, context.device.type == "cuda"
        for batch in make_loader(self.dataset, order, workers=self._workers, pin_memory=pin, images=images):
            self.bad.add(batch.bad)
            tensors = {**batch.tensors, **self._targets(batch.indices)}
            yield TaskBatch(tensors, [shown(images.names[index]) for index in batch.indices.tolist()], batch.lists)
