"""Run a classifier over labelled images and score its predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convnextv2.data.files.decode import MAX_PIXELS
from convnextv2.data.labels.labels import LabelledImages
from convnextv2.engine.distributed import DistributedContext
from convnextv2.errors import RunFailedError
from convnextv2.inference.predictor import InputSpec, Predictor
from convnextv2.inference.progress import Progress
from convnextv2.inference.reader import ImageReader
from convnextv2.tasks.classify.metrics import score
from convnextv2.text import shown


@dataclass(frozen=True)
class EvalOutputs:
    """logits: (N, K) float32.  labels: (N,) or (N, K).  indices: (N,), of the images in their list."""

    logits: Tensor
    labels: Tensor
    indices: Tensor


@dataclass(frozen=True)
class ScoredLabel:
    """A class by name, and the model's probability for it, 0 to 1."""

    label: str
    confidence: float


def top_predictions(
    logits: Tensor, classes: Sequence[str], *, multi_label: bool, top: int = 1, threshold: float = 0.5
) -> Iterator[tuple[tuple[ScoredLabel, ...], tuple[ScoredLabel, ...]]]:
    """Yield, for each row of logits (N, K), the predicted labels and the `top` likeliest classes, most probable first.

    The predicted label is the likeliest class; with `multi_label` all above `threshold`, which may be none. Of equal
    logits the first wins.
    """
    logits = logits.double().cpu()
    chances = logits.sigmoid() if multi_label else logits.softmax(1)
    orders = logits.sort(dim=1, descending=True, stable=True).indices
    for row, order in zip(chances, orders, strict=True):
        labels = int((row > threshold).sum()) if multi_label else 1
        needed = order[: max(top, labels)]
        scored = tuple(ScoredLabel(classes[int(k)], float(row[k])) for k in needed)
        yield scored[:labels], scored[:top]


class Evaluator:
    """Labelled images, preprocessed as the paper evaluates: resized, centre crop; read once if they fit into memory.

    keep: whether to hold the images in memory for the next model.  say: called with a line of progress now and then, of
    this process's share of the images. The other arguments are those of `ImageReader`.
    """

    def __init__(
        self,
        data: LabelledImages,
        spec: InputSpec,
        *,
        batch_size: int = 64,
        workers: int | None = 0,
        max_pixels: int = MAX_PIXELS,
        keep: bool = True,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.data, self.spec, self._say = data, spec, say
        self.reader = ImageReader(
            data.images, spec, batch_size=batch_size, workers=workers, max_pixels=max_pixels, keep=keep
        )

    @property
    def bad(self) -> dict[int, str]:
        """Index and reason of every image that could not be read."""
        return self.reader.bad

    def scores(self, model: nn.Module, context: DistributedContext) -> dict[str, float]:
        """Return the scores of a model by name; the images are shared among all ranks."""
        outputs = self.outputs(model, context)
        return context.broadcast(lambda: score(outputs.logits, outputs.labels))

    @torch.no_grad()
    def outputs(self, model: nn.Module, context: DistributedContext) -> EvalOutputs:
        """Run a model in evaluation mode on every image that can be read; results are in the order of the list.

        Raises RunFailedError if none of the images can be read.
        """
        everyone = context.gather_each(lambda: self._own_share(model, context))
        found = torch.cat([part[1] for part in everyone])
        if len(self.data) and not len(found):
            self._none_can_be_read()
        order = found.argsort()
        return EvalOutputs(
            torch.cat([part[0] for part in everyone])[order], self.data.labels[found[order]], found[order]
        )

    @torch.no_grad()
    def _own_share(self, model: nn.Module, context: DistributedContext) -> tuple[Tensor, Tensor]:
        """Logits and indices of this process's share of the images."""
        predictor = Predictor(model, self.spec).to(context.device)
        logits = [torch.zeros(0, len(self.data.classes))]
        indices = [torch.zeros(0, dtype=torch.int64)]
        own = range(context.rank, len(self.data), context.world_size)
        progress, done = Progress(len(own), self._say), 0
        for batch in self.reader.batches(own):
            done += len(batch.indices) + len(batch.bad)
            progress(done)
            if len(batch.indices):
                logits.append(predictor(batch.images.to(context.device, non_blocking=True)).float().cpu())
                indices.append(batch.indices)
        return torch.cat(logits), torch.cat(indices)

    def image(self, index: int) -> Tensor:
        """Return image `index` as the model sees it, uint8 (C, size, size)."""
        return self.reader.image(index)

    def _none_can_be_read(self) -> None:
        images = self.data.images
        index, reason = next(iter(self.bad.items()), (0, "unreadable"))
        raise RunFailedError(
            f"none of the {len(images)} files in {shown(images.source)} can be read: {reason} "
            f"({shown(images.path(index))})"
        )
