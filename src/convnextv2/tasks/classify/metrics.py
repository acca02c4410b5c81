"""How good a classifier is: numbers of an evaluation, the confusion matrix, and numbers of each class.

Logits are (N, K) of any float dtype and are judged in float64. Labels are int64 (N,) where a picture has one class,
and 0 or 1 of a float dtype, (N, K), where it may have several or none. All numbers are fractions from 0 to 1.
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
_RANKED = 20_000_000  # logits up to which AUROC is computed: it takes a sort a class


_DRAWN_ON_TRAINING = (
    "Training (faint: as recorded, strong: a moving average) is measured on images cropped and changed at random, "
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
"""Every number of an evaluation; what is not a percentage is told with four digits."""


@dataclass(frozen=True)
class ClassScore:
    """One class of a confusion matrix.

    pictures: how many truly are of this class.
    accuracy: share of them that was recognised (recall); None without pictures.
    precision: share of the pictures taken for this class that are of it; None if none was.
    most_confused_with: the wrong class named most often for its pictures; None without an error.
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
    """One class where a picture may have several.

    positives: how many pictures have it.
    average_precision: None without positives.  auroc: None unless some pictures have it and some do not.
    """

    name: str
    positives: int
    average_precision: float | None
    auroc: float | None


def main_metric(multi_label: bool) -> str:
    """Name of the number, higher being better, by which the best epoch is chosen."""
    return "map" if multi_label else "top1"


def score(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Every number of an evaluation by name; one that these labels do not define is left out.

    One class a picture: `loss` (mean cross entropy), `top1`, `top5` (only of more than five classes), `mean_class`
    (mean accuracy of the classes present), `auroc` (each class against the rest, mean over those with positives and
    negatives; the plain binary one of two classes), `ece` (of the highest probability). Of equal logits the first wins.

    Several classes a picture: `loss` (mean binary cross entropy), `map` (mean average precision of the classes with
    positives), `auroc` (mean over those with positives and negatives), `f1` (over all entries, positive where the
    probability is above 0.5), `ece` (of all entries' probabilities).

    `ece` is the expected calibration error over 15 bins of equal width (Guo et al. 2017). `auroc` is left out of more
    than 20 million logits of single classes, as of ImageNet's 50,000 pictures: it takes a sort a class.

    Raises:
        RunFailedError: logits that are not finite.
    """
    if not len(logits):
        return {}
    logits, labels = _checked(logits, labels)
    values = _several(logits, labels.bool()) if labels.ndim == 2 else _single(logits, labels)
    return {name: value for name, value in values.items() if value is not None}


def confusion(logits: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Pictures by class, int64 (K, K): row the true class, column the predicted one. Raises as `score` does."""
    logits, labels = _checked(logits, labels)
    assert logits.shape[1] == num_classes
    cells = labels * num_classes + logits.argmax(1)
    return cells.bincount(minlength=num_classes**2).view(num_classes, num_classes)


def per_class(matrix: Tensor, classes: Sequence[str]) -> list[ClassScore]:
    """The classes of a confusion matrix (K, K), in its order."""
    matrix = matrix.cpu()
    right = matrix.diagonal()
    confused, other = (matrix - right.diag()).max(1)
    rows: list[list[int]] = torch.stack([right, matrix.sum(1), matrix.sum(0), confused, other], 1).tolist()
    return [
        ClassScore(
            name=name,
            pictures=pictures,
            accuracy=right / pictures if pictures else None,
            precision=right / predicted if predicted else None,
            most_confused_with=classes[other] if confused else None,
            confused=confused,
        )
        for name, (right, pictures, predicted, confused, other) in zip(classes, rows, strict=True)
    ]


def per_class_multi(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> list[LabelScore]:
    """The classes of pictures that may have several, in the order of the columns. Raises as `score` does."""
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
            f"the model's outputs are not finite for {int(bad.sum())} of {len(bad)} pictures of the evaluation:"
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
    place = before.sum(1)  # (N,), 0 where the true class is the one predicted
    right = place == 0
    seen = labels.bincount(minlength=classes)
    recall = labels[right].bincount(minlength=classes)[seen > 0] / seen[seen > 0].double()
    if logits.numel() > _RANKED:
        auroc = None
    elif classes == 2:  # the difference still ranks pictures whose probabilities have rounded to 0 and 1
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
    said = logits > 0
    named = int(said.sum() + has.sum())
    return {
        "loss": F.binary_cross_entropy_with_logits(logits, has.double()).item(),
        "map": _mean(_average_precisions(has, logits)),
        "auroc": _mean(_aurocs(has, logits)),
        "f1": 2 * int((said & has).sum()) / named if named else None,
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
