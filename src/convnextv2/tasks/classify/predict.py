"""Classify images with a trained model: one by one, in the order given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.given import Images, images_of
from convnextv2.data.transforms.display import pictures
from convnextv2.engine import distributed
from convnextv2.engine.precision import autocast, resolve
from convnextv2.errors import RunFailedError, UserError
from convnextv2.inference.loaded import LoadedModel
from convnextv2.inference.predictor import Predictor
from convnextv2.inference.reader import ImageBatch, ImageReader, as_listed
from convnextv2.loading import Backbone
from convnextv2.settings import make
from convnextv2.signatures import verb
from convnextv2.tasks.classify.evaluator import ScoredLabel, top_predictions
from convnextv2.tasks.classify.load import load_classifier
from convnextv2.tasks.classify.predict_settings import PredictSettings
from convnextv2.text import shown


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    path: as given, or joined to the folder or the text file that named it; of images in memory their number.
    labels: the likeliest class; of a model of several labels per image all above the threshold, most probable first.
    top: the likeliest classes, most probable first.
    error: why the file could not be read; there are then no labels.
    """

    path: str
    labels: tuple[ScoredLabel, ...] = ()
    top: tuple[ScoredLabel, ...] = ()
    error: str | None = None


@verb(PredictSettings, unchecked=("images",))
def predict(run: str | Path, images: Images, **settings: Any) -> Iterator[Prediction]:
    """Classify images, in the order given, batch by batch while one iterates.

    run: a run's folder (its best checkpoint if it has one), or a `model.safetensors`.
    images: image files, folders of them, and text files of paths, mixed; or arrays, tensors, PIL images, or a map-style
    dataset, see `data.files.given.Images`.

    A file that cannot be read gives a `Prediction` with its `error`.

    Raises UserError at once for a mistake in these; RunFailedError (while iterating) if outputs are not finite.
    """
    work = prepare(run, images, make(PredictSettings, "predict", settings))
    return (prediction for batch in work.batches() for prediction, _ in batch)


Answered = list[tuple[Prediction, Tensor | None]]
"""Predictions, each with its image as the model saw it, for figures, uint8 (C, size, size), if it could be read."""


@dataclass(frozen=True)
class Work:
    """Everything that is decided before the first image is opened."""

    classifier: LoadedModel[Backbone]
    images: ImageList
    settings: PredictSettings
    device: torch.device
    arithmetic: Literal["fp32", "bf16"]

    def batches(self) -> Iterator[Answered]:
        """Yield the predictions in order, a batch at a time."""
        predictor = self.classifier.predictor().to(self.device)
        reader = ImageReader.of(self.images, predictor.spec, self.settings)
        for batch in reader.batches():
            answered = {
                index: (Prediction(self.images.names[index], error=reason), None) for index, reason in batch.bad
            }
            answered |= self._answers(predictor, batch)
            yield [answered[index] for index in sorted(answered)]

    @torch.no_grad()
    def _answers(self, predictor: Predictor, batch: ImageBatch) -> dict[int, tuple[Prediction, Tensor | None]]:
        if not len(batch.indices):
            return {}
        with autocast(self.arithmetic, self.device):
            logits = predictor(batch.images.to(self.device, non_blocking=True)).float().cpu()
        info, settings, found = self.classifier.info, self.settings, {}
        predictions = top_predictions(
            logits,
            info.classes,
            multi_label=info.multi_label,
            top=settings.top,
            threshold=0.5 if settings.threshold is None else settings.threshold,
        )
        finite = logits.isfinite().all(1).tolist()
        shown_images = pictures(batch.images, self.classifier.preprocessing)
        for index, image, fine, (labels, top) in zip(
            batch.indices.tolist(),
            shown_images,
            finite,
            predictions,
            strict=True,
        ):
            path = self.images.names[index]
            if not fine:
                raise RunFailedError(f"the model's outputs for {shown(path)} are not finite: try --precision fp32")
            found[index] = (Prediction(path, labels, top), image)
        return found


def prepare(run: str | Path, images: Images, settings: PredictSettings) -> Work:
    """Decide everything before the first image is opened. Raises UserError for a mistake in the arguments."""
    listed = images_of(images)
    device = distributed.device_of(settings.device)
    classifier = load_classifier(run, weights=settings.weights)
    if settings.threshold is not None and not classifier.info.multi_label:
        raise UserError(
            f"--threshold {settings.threshold:g} is for models of several labels per image, and {classifier.file} "
            "gives one: leave it out"
        )
    listed = as_listed(listed, classifier.preprocessing, settings)
    return Work(classifier, listed, settings, device, resolve(settings.precision, device)[0])
