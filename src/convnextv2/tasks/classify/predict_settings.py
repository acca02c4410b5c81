"""Settings of `convnextv2 predict` for a classifier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from convnextv2.inference.settings import InferenceSettings


@dataclass(frozen=True, kw_only=True)
class PredictSettings(InferenceSettings):
    """Settings of `convnextv2 predict` for a classifier."""

    top: int = 5
    """How many of the likeliest classes to give."""
    weights: Literal["average", "plain"] = "average"
    """average: the EMA if the file has one; plain: the weights of the last step."""
    threshold: float | None = None
    """For models of several labels per image: the probability above which a label is given; by default 0.5."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto takes bf16 autocast if the machine computes in it."""

    def rules(self) -> Iterator[tuple[bool, str]]:
        """Yield the rules of `InferenceSettings`, and those of these settings."""
        yield from super().rules()
        yield from self.in_range("top", 1, float("inf"))
        yield from self.in_range("threshold", 0, 1)
