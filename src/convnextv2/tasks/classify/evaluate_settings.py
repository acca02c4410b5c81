"""Settings of `convnextv2 evaluate` for a classifier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convnextv2.inference.settings import InferenceSettings

Split = Literal["val", "test", "train"]


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(InferenceSettings):
    """Settings of `convnextv2 evaluate` for a classifier."""

    split: Split | None = None
    """The images to evaluate on; by default val, else test, else train; all if the data is not split."""
    label_column: str | None = None
    """Column of the CSV with the labels, if it is not called label, class or target."""
    label_separator: str | None = None
    """What separates the labels of an image in a CSV; by default a semicolon, if a consistent share has it."""
    weights: Literal["average", "plain", "both"] = "average"
    """average: the EMA if the file has one; plain: the weights of the last step; both for comparison."""
    checkpoint: Literal["best", "latest"] | None = None
    """Checkpoint of a run; by default the best if it has one."""
    image_size: int | None = None
    """Pixels on a side of what the model sees; by default as trained."""
    crop_pct: float | None = None
    """Share of a resized image's side that the crop takes; by default as trained."""
    resize: Literal["auto", "crop", "whole"] = "auto"
    """crop resizes the shorter side and cuts out the centre, whole resizes to the square; auto: whole from 384 on."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto takes bf16 autocast if the machine computes in it."""
    out: Path | None = None
    """A new folder for scores.json, classes.csv, predictions.csv, the confusion matrix and example predictions."""

    def rules(self) -> Iterator[tuple[bool, str]]:
        """Yield the rules of `InferenceSettings`, and those of these settings."""
        yield from super().rules()
        yield from self.in_range("image_size", 8, float("inf"))
        yield from self.in_range("crop_pct", 0, 1, low_open=True)
        yield (
            self.crop_pct is None or self.resize != "whole",
            "--crop-pct and --resize whole: the whole image has no crop; give one of them",
        )
