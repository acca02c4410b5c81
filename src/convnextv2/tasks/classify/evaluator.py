"""A classifier's answers to pictures, in words too, and what they are worth where the pictures have labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convnextv2.data.files.decode import MAX_PIXELS
from convnextv2.data.labels.labels import LabelledImages
from convnextv2.data.loading.loader import ImageSet, in_order
from convnextv2.data.transforms.colour import normalise
from convnextv2.data.transforms.geometry import CenterFit, Resize
from convnextv2.engine import machine
from convnextv2.engine.distributed import DistributedContext
from convnextv2.errors import UserError
from convnextv2.records import Preprocessing
from convnextv2.tasks.classify.metrics import score


@dataclass(frozen=True)
class EvalOutputs:
    """logits: (N, K) float32.  labels: (N,) or (N, K).  indices: (N,), of the pictures in their list."""

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
    """For each row of logits (N, K): the labels it gives the picture, and the `top` likeliest classes, surest first.

    The labels are the likeliest class; with `multi_label` all above `threshold`, which may be none. Of equal logits
    the first wins.
    """
    logits = logits.double().cpu()
    chances = logits.sigmoid() if multi_label else logits.softmax(1)
    orders = logits.sort(dim=1, descending=True, stable=True).indices
    for row, order in zip(chances, orders, strict=True):
        labels = int((row > threshold).sum()) if multi_label else 1
        needed = order[: max(top, labels)]
        guesses = tuple(ScoredLabel(classes[int(k)], float(row[k])) for k in needed)
        yield guesses[:labels], guesses[:top]


def check_reading(batch_size: int, workers: int | None, max_pixels: int) -> None:
    """UserError unless pictures can be read that way; see `readers` for `workers`."""
    for flag, value, least in (("batch-size", batch_size, 1), ("workers", workers, 0), ("max-pixels", max_pixels, 1)):
        if value is not None and value < least:
            raise UserError(f"--{flag} {value}: give {least} or more")


def readers(workers: int | None, batches: int) -> int:
    """How many processes read so many batches: never more than can be busy beside the model.

    workers: as asked for; None for as many as the processor has cores, less one, 1 to 8.
    """
    if workers is None:
        workers = min(max(1, machine.processors() - 1), 8)
    return min(workers, max(0, batches - 1))


class Evaluator:
    """Labelled pictures, seen as the paper evaluates: resized, centre cut out; read once if they fit into memory."""

    def __init__(
        self,
        data: LabelledImages,
        *,
        image_size: int,
        channels: int,
        preprocessing: Preprocessing,
        crop_pct: float | None = None,
        resize: Resize = "auto",
        batch_size: int = 64,
        workers: int = 0,
        max_pixels: int = MAX_PIXELS,
        keep: bool = True,
    ) -> None:
        """crop_pct, resize: see `CenterFit`.  keep: whether to hold the pictures in memory, for the next model."""
        self.data, self.workers = data, workers
        self._preprocessing, self._batch_size = preprocessing, batch_size
        self.fit = fit = CenterFit(image_size, crop_pct=crop_pct, resize=resize)
        self._set = ImageSet(
            data.images, lambda picture: {"images": fit(picture)}, channels=channels, max_pixels=max_pixels
        )
        size = len(data) * channels * image_size**2
        self._keep = keep and size < machine.free_bytes(torch.device("cpu")) // 8
        self._kept: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        self.bad: dict[int, str] = {}

    def scores(self, model: nn.Module, context: DistributedContext) -> dict[str, float]:
        """Names and values; the pictures are shared among all processes."""
        answers = self.answers(model, context)
        return context.broadcast(lambda: score(answers.logits, answers.labels))

    @torch.no_grad()
    def answers(self, model: nn.Module, context: DistributedContext) -> EvalOutputs:
        """What a model in evaluation mode says to every picture that can be read, in the order of the list."""
        logits = [torch.zeros(0, len(self.data.classes))]
        indices = [torch.zeros(0, dtype=torch.int64)]
        for images, numbers in self._batches(context):
            batch = normalise(images.to(context.device, non_blocking=True), self._preprocessing)
            logits.append(model(batch).float().cpu())
            indices.append(numbers)
        everyone = context.gather((torch.cat(logits), torch.cat(indices)))
        found = torch.cat([part[1] for part in everyone])
        order = found.argsort()
        return EvalOutputs(
            torch.cat([part[0] for part in everyone])[order], self.data.labels[found[order]], found[order]
        )

    def picture(self, index: int) -> Tensor:
        """Picture `index` as the model sees it, uint8 (C, size, size)."""
        return self._set[0, index].tensors["images"]

    def _batches(self, context: DistributedContext) -> Iterator[tuple[Tensor, Tensor]]:
        who = (context.rank, context.world_size)
        if who in self._kept:
            yield from self._kept[who]
            return
        kept = []
        share = range(context.rank, len(self.data), context.world_size)
        for batch in in_order(self._set, share, batch_size=self._batch_size, workers=self.workers):
            self.bad |= dict(batch.bad)
            if len(batch.indices):
                kept.append((batch.tensors["images"], batch.indices))
                yield kept[-1]
                if not self._keep:
                    kept.clear()
        if self._keep:
            self._kept = {who: kept}
