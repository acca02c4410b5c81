"""What a loop adds up between two lines of its log, and how its pace compares with the plan."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median_low

from convnextv2.engine.runlog import duration

_LATE = 1.3  # times the planned duration
_SURE_SECONDS = 20.0  # of training, before the pace is compared with the plan


@dataclass
class Meter:
    """Sums between two lines of the log; a checkpoint includes them."""

    steps: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, losses: dict[str, float], norm: float, seconds: float) -> None:
        """Take in a step: its losses by name, the norm of its gradient, how long it took."""
        self.steps, self.seconds = self.steps + 1, self.seconds + seconds
        for name, value in {**losses, "grad_norm": norm}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """Return the mean of each over the steps."""
        return {name: round(value / self.steps, 6) for name, value in self.sums.items()}


@dataclass
class Plan:
    """How long the run was to take, and how long its recent steps say it will."""

    seconds: float
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=20))  # seconds of each step
    since_start: float = 0.0

    def late(self, step: float, left: int, done: float) -> str:
        """Take in the seconds of a step; return a line, now and then, if the rest will take much longer than planned.

        left: steps still to do.  done: seconds of all steps so far.
        """
        self.recent.append(step)
        self.since_start += step
        expected = done + left * median_low(self.recent)
        if self.since_start < _SURE_SECONDS or expected < _LATE * self.seconds:
            return ""
        planned, self.seconds = self.seconds, expected
        return (
            f"slower than measured at the start: about {duration(expected)} in all, not {duration(planned)}; "
            "Ctrl-C stops and saves, --resume continues"
        )
