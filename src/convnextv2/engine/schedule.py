"""Learning rate over a run (facts of the published code: linear warm-up, then a decay, set at every step)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Decay = Literal["cosine", "poly"]


@dataclass(frozen=True)
class Schedule:
    """Linear from 0 to `peak` over the warm-up, then down to `floor` at the end.

    decay: "cosine" for half a cosine, "poly" for a straight line (a polynomial of power 1, as segmentation has it).
    """

    peak: float
    floor: float
    warmup_steps: int
    total_steps: int
    decay: Decay = "cosine"

    def at(self, step: int) -> float:
        """Return the rate of the optimiser step `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.peak * step / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        left = 1 - done if self.decay == "poly" else 0.5 * (1 + math.cos(math.pi * done))
        return self.floor + (self.peak - self.floor) * left
