"""The result of a probe: its numbers, and a sentence on them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convnextv2 import notebook

_STANDARD_ERRORS = 2  # that a difference must exceed to be clear


@dataclass(frozen=True)
class Score:
    """A fraction from 0 to 1: mean and sample standard deviation (None of one value) over draws of labels."""

    mean: float
    std: float | None
    values: tuple[float, ...]

    @staticmethod
    def of(values: Sequence[float]) -> Score:
        """Return the score of one value per draw."""
        spread = statistics.stdev(values) if len(values) > 1 else None
        return Score(statistics.fmean(values), spread, tuple(values))

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} %" + ("" if self.std is None else f" ± {100 * self.std:.1f}")


@dataclass(frozen=True)
class ProbeRow:
    """The scores of one model's features.  knn: None if images have several labels.  strengths: C, by draw."""

    name: str
    linear: Score
    knn: Score | None
    strengths: tuple[float, ...]


@dataclass(frozen=True)
class ProbeResult:
    """rows: this run, random weights, and the other run if one was named.

    metric: "top1", or "map" if images have several labels.  labelled, judged: number of images with a label used (the
    fewest of a draw), and of images evaluated on, those of `split`.  neighbours: k as it was used.  notes: a line each.
    """

    rows: tuple[ProbeRow, ...]
    metric: Literal["top1", "map"]
    split: str
    classes: int
    labelled: int
    judged: int
    neighbours: int
    image_size: int
    file: Path
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """What the numbers are."""
        name = "Accuracy" if self.metric == "top1" else "Mean average precision"
        draws = len(self.rows[0].linear.values)
        several = f" (mean ± standard deviation of {draws} draws)" if draws > 1 else ""
        images = f"{self.judged:,} {self.split} images of {self.classes} classes"
        return f"{name} on {images}, {self.labelled:,} labels{several}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return columns and rows as text."""
        columns = ["features", "linear probe", *([f"k-NN (k={self.neighbours})"] if self.rows[0].knn else [])]
        return columns, [[row.name, str(row.linear), *([str(row.knn)] if row.knn else [])] for row in self.rows]

    def _repr_html_(self) -> str:
        return notebook.table(*self.table(), f"{self.title}. {self.sentence}", *self.notes)

    @property
    def sentence(self) -> str:
        """What training added, in a sentence."""
        run, random = self.rows[:2]
        parts = [f"{self._added(run.linear, random.linear)} by the linear probe"]
        if run.knn and random.knn:
            parts.append(f"{self._added(run.knn, random.knn)} by k-NN")
        text = f"Over random weights of the same architecture, training {' and '.join(parts)}"
        if self.metric == "top1":
            return f"{text}."
        if self._error(run.linear, random.linear) is None:
            return f"{text}; its uncertainty is not known."
        return f"{text}, as far as the draws of labels tell."

    @property
    def better(self) -> bool | None:
        """Whether the run is better than random weights by more than the uncertainty, by linear probe or k-NN.

        None if it is ahead and the uncertainty is not known.
        """
        run, random = self.rows[:2]
        pairs = [(run.linear, random.linear), *([(run.knn, random.knn)] if run.knn and random.knn else [])]
        ahead = [(ours.mean - theirs.mean, self._error(ours, theirs)) for ours, theirs in pairs]
        if any(error is not None and gain > _STANDARD_ERRORS * error for gain, error in ahead):
            return True
        return None if any(error is None and gain > 0 for gain, error in ahead) else False

    def _added(self, run: Score, random: Score) -> str:
        points, error = 100 * (run.mean - random.mean), self._error(run, random)
        if error is None:
            return f"makes a difference of {points:+.1f} points"
        if abs(points) <= 100 * _STANDARD_ERRORS * error:
            return f"makes no clear difference ({points:+.1f} points)"
        return f"{'adds' if points > 0 else 'loses'} {abs(points):.1f} points"

    def _error(self, run: Score, random: Score) -> float | None:
        """Standard error of their difference, as far as it is known: from the images evaluated, and from the draws.

        The sampling error of mean average precision over images is not known: None if there is only one draw.
        """
        both = (run, random)
        if self.metric == "map" and any(score.std is None for score in both):
            return None
        variance = sum((score.std or 0) ** 2 / len(score.values) for score in both)
        if self.metric == "top1":
            variance += sum(score.mean * (1 - score.mean) / self.judged for score in both)
        return math.sqrt(variance)
