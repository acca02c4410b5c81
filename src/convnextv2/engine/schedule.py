"""Learning rate over a run (facts of the published code: linear warm-up, half a cosine, set at every step)."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class CosineSchedule:
    """Linear from 0 to `peak` over the warm-up, then half a cosine down to `floor` at the end."""

    peak: float
    floor: float
    warmup_steps: int
    total_steps: int

    def at(self, step: int) -> float:
        """Return the rate of the optimiser step `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.peak * step / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        return self.floor + (self.peak - self.floor) * 0.5 * (1 + math.cos(math.pi * done))
