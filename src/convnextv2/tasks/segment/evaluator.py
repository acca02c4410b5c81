"""Run a segmenter over images with masks and count right and wrong pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convnextv2.data.loading.batch import Batch, PerImage
from convnextv2.data.loading.read_each import read_each
from convnextv2.data.masks.scenes import Scenes
from convnextv2.engine.distributed import DistributedContext
from convnextv2.errors import BadImageError, RunFailedError
from convnextv2.inference.predictor import InputSpec
from convnextv2.inference.progress import Progress
from convnextv2.inference.reader import worker_count
from convnextv2.tasks.segment.metrics import confusion, score
from convnextv2.tasks.segment.windows import SceneScorer, WindowSettings
from convnextv2.text import shown


@dataclass(frozen=True)
class SceneOutputs:
    """matrix: int64 (K, K), pixels by true and predicted class.  miou: of each image by its index, over its classes."""

    matrix: Tensor
    miou: dict[int, float]


class SceneEvaluator:
    """Images with masks, read anew for every model, and scored at their own size.

    workers: processes that read.  precision: of the model's arithmetic.  say: called with a line of progress now and
    then, of this process's share of the images.
    """

    def __init__(
        self,
        scenes: Scenes,
        spec: InputSpec,
        windows: WindowSettings,
        *,
        workers: int | None = 0,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.scenes, self.spec, self.windows, self._workers, self._say = scenes, spec, windows, workers, say
        self._reading = spec.reading(scenes.max_pixels)
        self.bad: dict[int, str] = {}

    def scores(self, model: nn.Module, context: DistributedContext) -> dict[str, float]:
        """Return the scores of a model by name; the images are shared among all ranks."""
        return score(self.outputs(model, context).matrix)

    def outputs(self, model: nn.Module, context: DistributedContext, precision: str = "fp32") -> SceneOutputs:
        """Run a model in evaluation mode on every image that can be read; the counts are whole, so the sum is exact.

        Raises RunFailedError if none of the images can be read.
        """
        training = model.training
        everyone = context.gather_each(lambda: self._own_share(model, context, precision))
        model.train(training)
        matrix = torch.stack([each.matrix for each, _ in everyone]).sum(0)
        found = {index: value for each, _ in everyone for index, value in each.miou.items()}
        self.bad = {index: reason for _, bad in everyone for index, reason in bad.items()}
        if self.bad and not found:
            index, reason = next(iter(self.bad.items()))
            raise RunFailedError(
                f"none of the {len(self.scenes)} images in {shown(self.scenes.images.source)} can be read: {reason} "
                f"({shown(self.scenes.images.path(index))})"
            )
        return SceneOutputs(matrix, dict(sorted(found.items())))

    def scorer(self, model: nn.Module, device: torch.device, precision: str = "fp32") -> SceneScorer:
        """Return a model laid over images as this evaluates it."""
        return SceneScorer(
            model,
            self.spec.preprocessing,
            self.windows,
            classes=len(self.scenes.names),
            device=device,
            precision="bf16" if precision == "bf16" else "fp32",
        )

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image (C, H, W) and the classes of its pixels, uint8 (H, W). Raises BadImageError."""
        batch = next(iter(self._batches([index], 0)))
        if batch.bad:
            raise BadImageError(self.scenes.images.path(index), batch.bad[0][1])
        return batch.lists["images"][0], batch.lists["masks"][0]

    def _own_share(
        self, model: nn.Module, context: DistributedContext, precision: str
    ) -> tuple[SceneOutputs, dict[int, str]]:
        classes, bad = len(self.scenes.names), dict[int, str]()
        matrix, found = torch.zeros(classes, classes, dtype=torch.int64), dict[int, float]()
        scorer = self.scorer(model, context.device, precision)
        own = range(context.rank, len(self.scenes), context.world_size)
        progress = Progress(len(own), self._say)
        for done, batch in enumerate(self._batches(own, worker_count(self._workers, len(own))), 1):
            bad |= dict(batch.bad)
            for index, image, truth in zip(
                batch.indices.tolist(), batch.lists.get("images", ()), batch.lists.get("masks", ()), strict=True
            ):
                counts = torch.zeros(classes, classes, dtype=torch.int64)
                for band in scorer.bands(image):
                    predicted = band.scores.argmax(0)
                    rows = truth[band.top : band.top + len(predicted)].to(predicted.device)
                    counts += confusion(rows, predicted, classes).cpu()
                matrix += counts
                found[index] = score(counts)["miou"]
            progress(done)
        return SceneOutputs(matrix, found), bad

    def _batches(self, indices: Sequence[int], workers: int) -> Iterator[Batch]:
        return read_each(
            self.scenes.images,
            lambda image, mask: {"images": PerImage(image), "masks": PerImage(mask)},
            indices,
            batch_size=1,
            workers=workers,
            reading=self._reading,
            targets=self._mask,
        )

    def _mask(self, index: int) -> Tensor:
        return torch.from_numpy(self.scenes.mask(index))
