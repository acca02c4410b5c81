"""Settings of `convnextv2 predict` for a segmenter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from convnextv2.tasks.segment.evaluate_settings import WindowedSettings


@dataclass(frozen=True, kw_only=True)
class SegmentPredictSettings(WindowedSettings):
    """Settings of `convnextv2 predict` for a segmenter."""

    weights: Literal["average", "plain"] = "average"
    """average: the EMA if the file has one; plain: the weights of the last step."""
    overlay: bool = True
    """Also write the colours of the classes over each image, OUT/overlays."""
    probabilities: bool = False
    """Also write the probability of each class for each pixel, OUT/probabilities/NAME.npy, float16 (K, H, W)."""
