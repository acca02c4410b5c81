"""What a trained classifier says of pictures: one by one, in the order given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from convnextv2.data.files.decode import MAX_PIXELS
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.paths import pictures_at
from convnextv2.data.loading.loader import ImageSet, Sample, make_loader
from convnextv2.data.transforms.colour import normalise
from convnextv2.data.transforms.geometry import CenterFit
from convnextv2.engine import distributed
from convnextv2.engine.precision import Precision, autocast, resolve
from convnextv2.errors import BadImageError, RunFailedError, UserError
from convnextv2.tasks.classify.evaluator import ScoredLabel, check_reading, readers, top_predictions
from convnextv2.tasks.classify.model_file import Classifier, load_classifier
from convnextv2.text import shown
from convnextv2.weights.model_file import Weights

Given = str | os.PathLike[str]


@dataclass(frozen=True)
class Prediction:
    """What a model says of one picture.

    path: as given, or joined to the folder or the text file that named it.
    labels: the likeliest class; of a model of several labels a picture all above the threshold, surest first.
    top: the likeliest classes, surest first.
    error: why the file could not be read; there are then no labels.
    """

    path: str
    labels: tuple[ScoredLabel, ...] = ()
    top: tuple[ScoredLabel, ...] = ()
    error: str | None = None


Answered = list[tuple[Prediction, Tensor | None]]
"""Predictions, each with its picture as the model saw it, uint8 (C, size, size), if it has one."""


def predict(
    run: str | Path,
    images: Given | Iterable[Given],
    *,
    top: int = 5,
    weights: Weights = "average",
    threshold: float | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Prediction]:
    """What a run's classifier says of each picture, in the order given, batch by batch while one iterates.

    Args:
        run: a run's folder (its best checkpoint where it has one), or a `model.safetensors`.
        images: picture files, folders of them, and text files of paths, mixed.
        top: how many of the likeliest classes to name.
        threshold: of a model of several labels a picture, the probability above which a label is given; by default 0.5.
        workers: processes that read pictures; by default one a core, less one, up to 8.
        max_pixels: pictures of more count as unreadable.

    A file that cannot be read gives a `Prediction` with its `error`.

    Raises UserError at once for a mistake in these; RunFailedError (while iterating) where outputs are not finite.
    """
    work = prepare(
        run,
        images,
        top=top,
        weights=weights,
        threshold=threshold,
        batch_size=batch_size,
        workers=workers,
        device=device,
        precision=precision,
        max_pixels=max_pixels,
    )
    return (prediction for batch in work.batches() for prediction, _ in batch)


@dataclass(frozen=True)
class Work:
    """All that is decided before the first picture is opened."""

    classifier: Classifier
    names: tuple[str, ...]
    top: int
    threshold: float
    batch_size: int
    workers: int
    device: torch.device
    precision: Literal["fp32", "bf16"]
    max_pixels: int

    def batches(self) -> Iterator[Answered]:
        """Predictions in order, a portion at a time."""
        pictures = _EachItself(ImageList(Path(), self.names, Path()), self.classifier, self.max_pixels)
        self.classifier.model.to(self.device)
        portions = _portions(len(self.names), self.batch_size)
        number = 0
        for batch in make_loader(pictures, portions, workers=self.workers, pin_memory=self.device.type == "cuda"):
            reasons, images = dict(batch.bad), batch.tensors["images"]
            logits = self._logits(images)
            said = top_predictions(
                logits,
                self.classifier.classes,
                multi_label=self.classifier.multi_label,
                top=self.top,
                threshold=self.threshold,
            )
            answered: Answered = []
            for image, finite, (labels, top) in zip(images, logits.isfinite().all(1).tolist(), said, strict=True):
                path = self.names[number]
                if number in reasons:
                    answered.append((Prediction(path, error=reasons[number]), None))
                elif finite:
                    answered.append((Prediction(path, labels, top), image))
                else:
                    raise RunFailedError(f"the model's outputs for {shown(path)} are not finite: try --precision fp32")
                number += 1
            yield answered

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        batch = normalise(images.to(self.device, non_blocking=True), self.classifier.preprocessing)
        with autocast(self.precision, self.device):
            return self.classifier.model(batch).float().cpu()


class _EachItself(ImageSet):
    """The pictures as the classifier sees them. One that cannot be read is blank: no other stands in for it."""

    def __init__(self, images: ImageList, classifier: Classifier, max_pixels: int) -> None:
        size, channels = classifier.image_size, classifier.model.in_chans
        fit = CenterFit(size, crop_pct=classifier.crop_pct)
        super().__init__(images, lambda picture: {"images": fit(picture)}, channels=channels, max_pixels=max_pixels)
        self._blank = torch.zeros(channels, size, size, dtype=torch.uint8)
        self._see = fit

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        index = key[1]
        try:
            return Sample({"images": self._see(self.read(index))}, index)
        except BadImageError as error:
            return Sample({"images": self._blank}, index, ((index, error.reason),))


def prepare(
    run: str | Path,
    images: Given | Iterable[Given],
    *,
    top: int,
    weights: Weights,
    threshold: float | None,
    batch_size: int,
    workers: int | None,
    device: str,
    precision: Precision,
    max_pixels: int,
) -> Work:
    """Raises UserError for whatever is wrong with what was asked, before any picture is opened."""
    check_reading(batch_size, workers, max_pixels)
    if top < 1:
        raise UserError(f"--top {top}: give 1 or more")
    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"--threshold {threshold:g}: give a probability from 0 to 1")
    names = tuple(pictures_at([images] if isinstance(images, str | os.PathLike) else images))
    if not names:
        raise UserError("no pictures given: name picture files, folders of them, or text files of paths")
    where = distributed.init(device).device
    classifier = load_classifier(run, weights=weights)
    if threshold is not None and not classifier.multi_label:
        raise UserError(
            f"--threshold {threshold:g} is for models of several labels a picture, and {classifier.file} gives one:"
            " leave it out"
        )
    return Work(
        classifier=classifier,
        names=names,
        top=top,
        threshold=0.5 if threshold is None else threshold,
        batch_size=batch_size,
        workers=readers(workers, -(-len(names) // batch_size)),
        device=where,
        precision=resolve(precision, where)[0],
        max_pixels=max_pixels,
    )


def _portions(count: int, size: int) -> Iterator[list[tuple[int, int]]]:
    """What to read, batch by batch, without a list of it all."""
    for start in range(0, count, size):
        yield [(0, index) for index in range(start, min(start + size, count))]
