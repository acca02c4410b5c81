"""What is done with a trained model: both go through the one inference path."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from convnextv2.data.files.folder import ImageList, list_images
from convnextv2.data.files.paths import pictures_at
from convnextv2.inference.reader import ImageReader
from convnextv2.inference.settings import InferenceSettings
from convnextv2.loading import load_kind
from convnextv2.settings import make


@dataclass(frozen=True)
class Colour:
    """path: of the image.  colour: predicted, red, green and blue, 0 to 1."""

    path: str
    colour: tuple[float, ...]


def predict(run, images, **settings) -> Iterator[Colour]:
    given = [images] if isinstance(images, str | os.PathLike) else images
    return _colours(run, ImageList(Path(), tuple(pictures_at(given)), Path()), settings)


def evaluate(run, data, **settings) -> dict[str, float]:
    """Mean absolute error over the images of a folder, against the mean colour of what the model sees."""
    images = list_images(data)
    loaded = load_kind(run, "mean-colour", instead="does not predict colours")
    reader = ImageReader.of(images, loaded.input_spec(), make(InferenceSettings, "evaluate", settings))
    true = torch.stack([reader.image(index).float().mean((1, 2)) / 255 for index in range(len(images))])
    predicted = torch.tensor([found.colour for found in _colours(run, images, settings)])
    return {"mae": (predicted - true).abs().mean().item()}


@torch.no_grad()
def _colours(run, images: ImageList, settings) -> Iterator[Colour]:
    predictor = load_kind(run, "mean-colour", instead="does not predict colours").predictor()
    reader = ImageReader.of(images, predictor.spec, make(InferenceSettings, "predict", settings))
    for batch in reader.batches():
        for index, colour in zip(batch.indices.tolist(), predictor(batch.images).tolist(), strict=True):
            yield Colour(str(images.path(index)), tuple(colour))
