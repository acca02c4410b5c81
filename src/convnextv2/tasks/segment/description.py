"""Texts of the report of a segmenter's run."""

from __future__ import annotations

from collections.abc import Mapping

from convnextv2.data.masks.scenes import Scenes
from convnextv2.records import Baseline, RunDescription, SampleInfo
from convnextv2.tasks.segment.metrics import METRICS, score
from convnextv2.text import shown


def describe_run(model: str, train: Scenes, weights: str | None, held_out: Mapping[str, Scenes]) -> RunDescription:
    """Describe a segmenter's run for its report.

    model: name of the architecture.  weights: those to start from; None for random ones.
    held_out: the images to validate and to test with, by split.
    """
    origin = "random weights" if weights is None else f"the pre-trained weights {weights}"
    images = "validation images" if "val" in held_out else "test images"
    wall = "image, what is true and what was predicted"
    captions = {
        "confusion-matrix": f"The pixels of the {images}: the row is the true class, the column what the model"
        " predicted; blue is right, orange is wrong.",
        "worst-scenes": f"The {images} with the lowest mean IoU: {wall}. Look for wrong masks.",
        "best-scenes": f"The {images} with the highest mean IoU: {wall}.",
        "training-pictures": "The input of training: images scaled, cropped and changed at random, and their masks.",
    }
    return RunDescription(
        headline=f"A segmenter of {len(train.names)} classes: {model}",
        learns=f"from {origin} on {len(train):,} images with masks of {len(train.names)} classes",
        primary="miou",
        metrics=tuple(METRICS.values()),
        samples=tuple(SampleInfo(kind, caption) for kind, caption in captions.items()),
        commands=(
            ("convnextv2 predict --run {run} images/ --out masks", "Segment your own images: a mask for each."),
            ("convnextv2 evaluate --run {run} --data DATA --out scores", "Evaluate on other images with masks."),
        ),
        baselines={split: _baseline(scenes) for split, scenes in held_out.items() if len(scenes)},
    )


def _baseline(scenes: Scenes) -> Baseline:
    """The score without looking: every pixel is of the most frequent class."""
    pixels = scenes.pixels()
    most = int(pixels.argmax())
    matrix = pixels.new_zeros(len(pixels), len(pixels))
    matrix[:, most] = pixels
    return Baseline(score(matrix)["miou"], description=f"always answering {shown(scenes.names[most])}")
