"""Metrics of a classifier: scores of an evaluation, the confusion matrix, and scores of each class.

Logits are (N, K) of any float dtype and are scored in float64. Labels are int64 (N,) if an image has one class, and 0
or 1 of a float dtype, (N, K), if it may have several or none. All scores but the loss are fractions from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from convnextv2.errors import RunFailedError
from convnextv2.records import MetricInfo

_BINS = 15
_RANKED = 20_000_000  # logits up to which AUROC is computed: it takes one sort per class

_DRAWN_ON_TRAINING = (
    "Training (faint: as recorded, strong: a moving average) is measured on images cropped and augmented at random, "
    "which are harder than those for validation; its loss also counts smoothed, mixed and weighted labels."
)

METRICS: dict[str, MetricInfo] = {
    info.name: info
    for info in (
        MetricInfo(
            "top1",
            "top-1",
            percent=True,
            description=f"Top-1: the share of images for which the right class came first. {_DRAWN_ON_TRAINING}",
        ),
        MetricInfo("top5", "top-5", percent=True),
        MetricInfo("mean_class", "mean per class", percent=True),
        MetricInfo(
            "map",
            "mAP",
            percent=True,
            description="mAP: how well the images with a label are ranked before those without it, averaged over the "
            f"labels. {_DRAWN_ON_TRAINING}",
        ),
        MetricInfo("f1", "F1", percent=True),
        MetricInfo("auroc", "AUROC"),
        MetricInfo("ece", "calibration error"),
        MetricInfo("loss", "loss"),
    )
}
"""Every metric of an evaluation; what is not a percentage is shown with four digits."""


@dataclass(frozen=True)
class ClassScore:
    """One class of a confusion matrix.

    pictures: number of images of this class.
    accuracy: share of them that is predicted right (recall); None without images.
    precision: share of the images predicted as this class that are of it; None if there are none.
    most_confused_with: the wrong class predicted most often for its images; None without an error.
    confused: how often.
    """

    name: str
    pictures: int
    accuracy: float | None
    precision: float | None
    most_confused_with: str | None
    confused: int


@dataclass(frozen=True)
class LabelScore:
    """One class if an image may have several.

    positives: number of images that have it.
    average_precision: None without positives.  auroc: None unless some images have it and some do not.
    """

    name: str
    positives: int
    average_precision: float | None
    auroc: float | None


def main_metric(multi_label: bool) -> str:
    """Return the name of the metric, higher being better, by which the best epoch is chosen."""
    return "map" if multi_label else "top1"


def score(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return every metric of an evaluation by name; one that these labels do not define is left out.

    logits: (N, K).  labels: (N,) if an image has one class, (N, K) if it may have several.

    One class per image: `loss` (mean cross entropy), `top1`, `top5` (only of more than five classes), `mean_class`
    (mean accuracy of the classes present), `auroc` (each class against the rest, mean over those with positives and
    negatives; the plain binary one of two classes), `ece` (of the highest probability). Of equal logits the first wins.

    Several classes per image: `loss` (mean binary cross entropy), `map` (mean average precision of the classes with
    positives), `auroc` (mean over those with positives and negatives), `f1` (over all entries, positive if the
    probability is above 0.5), `ece` (of all entries' probabilities).

    `ece` is the expected calibration error over 15 bins of equal width (Guo et al. 2017). `auroc` is left out for
    more than 20 million logits of single classes, as for ImageNet's 50,000 images: it takes one sort per class.

    Raises RunFailedError if logits are not finite.
    """
    if not len(logits):
        return {}
    logits, labels = _checked(logits, labels)
    values = _several(logits, labels.bool()) if labels.ndim == 2 else _single(logits, labels)
    return {name: value for name, value in values.items() if value is not None}


def confusion(logits: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count images by class, int64 (K, K): row the true class, column the predicted one. Raises as `score` does.

    logits: (N, K).  labels: (N,).
    """
    logits, labels = _checked(logits, labels)
    assert logits.shape[1] == num_classes
    cells = labels * num_classes + logits.argmax(1)
    return cells.bincount(minlength=num_classes**2).view(num_classes, num_classes)


def per_class(matrix: Tensor, classes: Sequence[str]) -> list[ClassScore]:
    """Return the scores of the classes of a confusion matrix (K, K), in its order."""
    matrix = matrix.cpu()
    right = matrix.diagonal()
    confused, other = (matrix - right.diag()).max(1)
    rows: list[list[int]] = torch.stack([right, matrix.sum(1), matrix.sum(0), confused, other], 1).tolist()
    return [
        ClassScore(
            name=name,
            pictures=images,
            accuracy=right / images if images else None,
            precision=right / predicted if predicted else None,
            most_confused_with=classes[other] if confused else None,
            confused=confused,
        )
        for name, (right, images, predicted, confused, other) in zip(classes, rows, strict=True)
    ]


def per_class_multi(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> list[LabelScore]:
    """Return the scores of classes of which an image may have several, in the order of the columns.

    logits: (N, K).  labels: (N, K). Raises as `score` does.
    """
    logits, labels = _checked(logits, labels)
    has = labels.bool()
    positives = has.sum(0).tolist()
    return [
        LabelScore(*values)
        for values in zip(classes, positives, _average_precisions(has, logits), _aurocs(has, logits), strict=True)
    ]


def _checked(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Both on the CPU, the logits in float64."""
    logits, labels = logits.detach().cpu().double(), labels.detach().cpu()
    bad = ~logits.isfinite().all(1)
    if bad.any():
        raise RunFailedError(
            f"the model's outputs are not finite for {int(bad.sum())} of {len(bad)} images of the evaluation:"
            " try a lower --lr, a longer --warmup-epochs, or --precision fp32"
        )
    assert len(labels) == len(logits)
    if labels.ndim == 1:
        assert bool(((labels >= 0) & (labels < logits.shape[1])).all())
    else:
        assert labels.shape == logits.shape
        assert bool(((labels == 0) | (labels == 1)).all())
    return logits, labels


def _single(logits: Tensor, labels: Tensor) -> dict[str, float | None]:
    classes = logits.shape[1]
    log_probability = logits.log_softmax(1)
    own = logits.gather(1, labels[:, None])
    before = (logits > own) | ((logits == own) & (torch.arange(classes) < labels[:, None]))
    place = before.sum(1)  # (N,), 0 if the true class is the one predicted
    right = place == 0
    counts = labels.bincount(minlength=classes)
    recall = labels[right].bincount(minlength=classes)[counts > 0] / counts[counts > 0].double()
    if logits.numel() > _RANKED:
        auroc = None
    elif classes == 2:  # the difference still ranks images whose probabilities have rounded to 0 and 1
        auroc = _mean(_aurocs(labels[:, None] == 1, logits[:, 1:] - logits[:, :1]))
    else:
        auroc = _mean(_aurocs(labels[:, None] == torch.arange(classes), log_probability))
    return {
        "loss": F.nll_loss(log_probability, labels).item(),
        "top1": right.double().mean().item(),
        "top5": (place < 5).double().mean().item() if classes > 5 else None,
        "mean_class": recall.mean().item(),
        "auroc": auroc,
        "ece": _calibration_error(logits.softmax(1).amax(1), right),
    }


def _several(logits: Tensor, has: Tensor) -> dict[str, float | None]:
    predicted = logits > 0
    named = int(predicted.sum() + has.sum())
    return {
        "loss": F.binary_cross_entropy_with_logits(logits, has.double()).item(),
        "map": _mean(_average_precisions(has, logits)),
        "auroc": _mean(_aurocs(has, logits)),
        "f1": 2 * int((predicted & has).sum()) / named if named else None,
        "ece": _calibration_error(logits.sigmoid().flatten(), has.flatten()),
    }


def _calibration_error(probability: Tensor, right: Tensor) -> float:
    """Equation 3 of Guo et al. 2017; probability float64 (M,), right bool (M,). A bin holds its upper edge."""
    edges = torch.arange(1, _BINS, dtype=torch.float64) / _BINS
    gaps = torch.zeros(_BINS, dtype=torch.float64)
    gaps.index_add_(0, torch.bucketize(probability, edges), right.double() - probability)
    return gaps.abs().sum().item() / len(probability)


def _aurocs(has: Tensor, scores: Tensor) -> Iterator[float | None]:
    """Of every column; has bool (N, K), scores (N, K)."""
    from sklearn.metrics import roc_auc_score

    for positive, column in zip(has.T, scores.T, strict=True):
        defined = positive.any() and not positive.all()
        yield float(roc_auc_score(positive.numpy(), column.numpy())) if defined else None


def _average_precisions(has: Tensor, scores: Tensor) -> Iterator[float | None]:
    """Of every column; has bool (N, K), scores (N, K)."""
    from sklearn.metrics import average_precision_score

    for positive, column in zip(has.T, scores.T, strict=True):
        yield float(average_precision_score(positive.numpy(), column.numpy())) if positive.any() else None


def _mean(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
