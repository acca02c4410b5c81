"""What is done with a trained model: both go through the one inference path."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from convnextv2.extend import (
    ImageList,
    ImageReader,
    InferenceSettings,
    Predictor,
    images_of,
    init_distributed,
    list_images,
    load_kind,
    make_settings,
)


@dataclass(frozen=True)
class Colour:
    """path: of the image.  colour: red, green and blue, 0 to 1.  error: why it could not be read, else empty."""

    path: str
    colour: tuple[float, ...] = ()
    error: str = ""


def predict(run, images, **settings) -> Iterator[Colour]:
    """Everything is decided at once; images are read as the results are asked for."""
    chosen = make_settings(InferenceSettings, "predict", settings)
    predictor, reader = _opened(run, images_of(images), chosen)
    return _colours(predictor, reader)


def evaluate(run, data, **settings) -> dict[str, float]:
    """Mean absolute error over the images of a folder, against the mean colour of what the model sees."""
    images = list_images(data)
    predictor, reader = _opened(run, images, make_settings(InferenceSettings, "evaluate", settings))
    errors = []
    with torch.no_grad():
        for batch in reader.batches():
            true = batch.images.float().mean((2, 3)) / 255
            errors.append((_predicted(predictor, batch.images) - true).abs().flatten())
    return {"mae": torch.cat(errors).mean().item(), "unreadable": len(reader.bad)}


def _opened(run, images: ImageList, settings: InferenceSettings) -> tuple[Predictor, ImageReader]:
    device = init_distributed(settings.device).device
    predictor = load_kind(run, "mean-colour", instead="does not predict colours").predictor().to(device)
    return predictor, ImageReader.of(images, predictor.spec, settings)


@torch.no_grad()
def _colours(predictor: Predictor, reader: ImageReader) -> Iterator[Colour]:
    for batch in reader.batches():
        found = {index: Colour(str(reader.images.path(index)), error=reason) for index, reason in batch.bad}
        for index, colour in zip(batch.indices.tolist(), _predicted(predictor, batch.images).tolist(), strict=True):
            found[index] = Colour(str(reader.images.path(index)), tuple(colour))
        yield from (found[index] for index in sorted(found))


def _predicted(predictor: Predictor, images: torch.Tensor) -> torch.Tensor:
    return predictor(images.to(next(predictor.parameters()).device)).cpu()
