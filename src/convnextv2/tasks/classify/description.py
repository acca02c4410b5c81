"""Texts of the report of a classifier's run."""

from __future__ import annotations

from collections.abc import Mapping

from convnextv2.data.labels.labels import LabelledImages
from convnextv2.records import Baseline, RunDescription, SampleInfo
from convnextv2.tasks.classify.metrics import METRICS, main_metric
from convnextv2.text import shown


def describe_run(
    model: str, train: LabelledImages, weights: str | None, held_out: Mapping[str, LabelledImages]
) -> RunDescription:
    """Describe a classifier's run for its report.

    model: name of the architecture.  weights: those to start from; None for random ones.
    held_out: the images to validate and to test with, by split.
    """
    several, count = train.multi_label, len(train.classes)
    things = ("label" if count == 1 else "labels") if several else ("class" if count == 1 else "classes")
    origin = "random weights" if weights is None else f"the pre-trained weights {weights}"
    return RunDescription(
        headline=f"A classifier of {count:,} {things}: {model}",
        learns=f"from {origin} on {len(train):,} images {'with' if several else 'of'} {count:,} {things}",
        primary=main_metric(several),
        metrics=tuple(METRICS.values()),
        samples=_samples("validation images" if "val" in held_out else "test images", several),
        commands=(
            (
                "convnextv2 predict --run {run} images/",
                "Classify your own images, here those in the folder images/.",
            ),
            (
                "convnextv2 evaluate --run {run} --data DATA",
                "Evaluate on other labelled images, laid out like the training data.",
            ),
        ),
        baselines={split: _baseline(images) for split, images in held_out.items() if len(images)},
    )


def _baseline(images: LabelledImages) -> Baseline:
    """The score without looking: the share of the most frequent class; with several labels that of a random order."""
    counts = images.counts()
    if images.multi_label:  # the expected precision of a random ranking is the share of images with the label
        share = counts[counts > 0].double().mean().item() / len(images) if counts.any() else 0.0
        return Baseline(share, description="images in random order")
    most = int(counts.argmax())
    return Baseline(int(counts[most]) / len(images), len(images), f"always answering {shown(images.classes[most])}")


def _samples(images: str, several: bool) -> tuple[SampleInfo, ...]:
    worst, best = "misclassified with most confidence", "classified correctly with most confidence"
    if several:
        worst, best = "whose labels are furthest from the predictions", "whose labels are closest to the predictions"
    captions = {
        "confusion-matrix": f"The {images}: the row is the true class, the column what the model predicted; blue is "
        "right, orange is wrong.",
        "worst-predictions": f"The {images} {worst}: look for wrong labels.",
        "best-predictions": f"The {images} {best}: look for a background or a mark that gives the class away.",
        "training-pictures": "The input of training: images cropped and augmented at random, with labels.",
    }
    return tuple(SampleInfo(kind, caption) for kind, caption in captions.items())
