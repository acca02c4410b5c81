"""Scores of a segmenter, all from one matrix of whole numbers: exact, however images are divided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnextv2.data.masks.codes import NO_CLASS
from convnextv2.records import MetricInfo

METRICS = {
    each.name: each
    for each in (
        MetricInfo(
            "miou",
            "mean IoU",
            percent=True,
            description="Of each class, the pixels where truth and prediction agree, divided by those where either "
            "says it; the mean over all classes. Pixels without a class do not count.",
        ),
        MetricInfo("pixel_accuracy", "pixel accuracy", percent=True, description="The share of right pixels."),
        MetricInfo(
            "mean_accuracy",
            "mean accuracy",
            percent=True,
            description="The share of right pixels of each class, averaged over the classes.",
        ),
    )
}


def confusion(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Count pixels by true class (row) and predicted class (column), int64 (K, K).

    truth: integers of any shape, `NO_CLASS` for pixels that do not count.  predicted: of the same shape, below K.
    """
    there = truth != NO_CLASS
    places = truth[there].long() * classes + predicted[there].long()
    return torch.bincount(places, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True)
class ClassScores:
    """The numbers of one class; None where they are not defined, as it has no pixel.

    iou: true pixels that were found, divided by true and predicted ones together.  accuracy: share of its pixels that
    were found.  precision: share of the pixels predicted as it that are.  pixels: that are it.
    """

    name: str
    iou: float | None
    accuracy: float | None
    precision: float | None
    pixels: int


def per_class(matrix: Tensor, classes: Sequence[str]) -> list[ClassScores]:
    """Return the numbers of each class from a matrix of `confusion`."""
    right, true, found = matrix.diagonal().tolist(), matrix.sum(1).tolist(), matrix.sum(0).tolist()
    return [
        ClassScores(name, _ratio(r, t + f - r), _ratio(r, t), _ratio(r, f), t)
        for name, r, t, f in zip(classes, right, true, found, strict=True)
    ]


def score(matrix: Tensor) -> dict[str, float]:
    """Return "miou", "pixel_accuracy" and "mean_accuracy" from a matrix of `confusion`, each 0 to 1.

    A class that neither truth nor prediction has is in no mean; all are NaN without a pixel.
    """
    each = per_class(matrix, [""] * len(matrix))
    total = int(matrix.sum())
    return {
        "miou": _mean([one.iou for one in each]),
        "pixel_accuracy": int(matrix.diagonal().sum()) / total if total else float("nan"),
        "mean_accuracy": _mean([one.accuracy for one in each]),
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")
