"""Settings of `convnextv2 evaluate` and `predict` that say how a segmenter is laid over images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convnextv2.inference.settings import InferenceSettings


@dataclass(frozen=True, kw_only=True)
class WindowedSettings(InferenceSettings):
    """Settings of every use of a segmenter."""

    window: Literal["auto", "whole", "slide"] = "auto"
    """Whether a segmenter sees an image whole, or window by window; auto: whole up to twice the size of its training
    crops."""
    scales: str | tuple[float, ...] | None = None
    """Factors on the size of images, as 0.75,1,1.25: a segmenter averages its probabilities at all of them."""
    mirror: bool = False
    """A segmenter sees each image mirrored, too, and averages its probabilities."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto takes bf16 autocast if the machine computes in it."""

    def __post_init__(self) -> None:
        """Read `scales` as numbers, then check all settings."""
        if isinstance(self.scales, str):
            with suppress(ValueError):
                object.__setattr__(self, "scales", tuple(float(each) for each in self.scales.split(",")))
        super().__post_init__()

    def rules(self) -> Iterator[tuple[bool, str]]:
        """Yield the rules of `InferenceSettings`, and those of these settings."""
        yield from super().rules()
        scales = self.scales
        holds = not isinstance(scales, str) and (
            scales is None or (0 < len(scales) <= 16 and all(0.05 <= each <= 8 for each in scales))
        )
        yield holds, f"--scales {scales}: give factors from 0.05 to 8, as 0.75,1,1.25"

    @property
    def factors(self) -> tuple[float, ...]:
        """The scales as numbers."""
        return self.scales if isinstance(self.scales, tuple) else (1.0,)


@dataclass(frozen=True, kw_only=True)
class SegmentEvaluateSettings(WindowedSettings):
    """Settings of `convnextv2 evaluate` for a segmenter."""

    split: Literal["val", "test", "train"] | None = None
    """The images to evaluate on; by default val, else test, else train; all if the data is not split."""
    weights: Literal["average", "plain", "both"] = "average"
    """average: the EMA if the file has one; plain: the weights of the last step; both, of a classifier."""
    checkpoint: Literal["best", "latest"] | None = None
    """Checkpoint of a run; by default the best if it has one."""
    max_bad_fraction: float = 0.01
    """Give up if more than this share of images and masks is at fault; a few always may, unless it is 0."""
    out: Path | None = None
    """A new folder for scores.json, classes.csv, the confusion matrix and walls of the worst and best images."""

    def rules(self) -> Iterator[tuple[bool, str]]:
        """Yield the rules of `WindowedSettings`, and those of these settings."""
        yield from super().rules()
        yield from self.in_range("max_bad_fraction", 0, 1)
