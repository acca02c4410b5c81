"""Whether a run learned anything: its result, its uncertainty, and what a model that learned nothing would score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from convnextv2.report.description import Baseline, Description
from convnextv2.report.metrics import Series
from convnextv2.report.run_folder import RunFolder, is_number
from convnextv2.report.words import number, percent

_STANDARD_ERRORS = 1.96  # of a normal distribution, for 95 % confidence


@dataclass(frozen=True)
class Result:
    """A score of the primary metric on one split, "val" or "test".

    low, high: ends of its 95 % confidence interval; None if its uncertainty is not known.
    """

    split: str
    value: float
    baseline: Baseline | None
    low: float | None = None
    high: float | None = None

    @property
    def better(self) -> bool | None:
        """Whether it is above the baseline by more than its uncertainty; None without a baseline."""
        if self.baseline is None:
            return None
        return (self.value if self.low is None else self.low) > self.baseline.value


def interval(share: float, images: int) -> tuple[float, float]:
    """Return the ends of the 95 % confidence interval of a share of `images` images (Wilson 1927)."""
    z = _STANDARD_ERRORS
    middle = (share + z * z / (2 * images)) / (1 + z * z / images)
    half = z * math.sqrt(share * (1 - share) / images + z * z / (4 * images * images)) / (1 + z * z / images)
    return max(0.0, middle - half), min(1.0, middle + half)


def result(run: RunFolder, said: Description, split: str) -> Result | None:
    """Return the score of the primary metric on a split: the best on "val", that of the chosen weights on "test"."""
    series = validation(run, said)
    value = _test_score(run.scores.get("test"), said.primary) if split == "test" else None
    if split == "val" and series is not None:
        value = float(series.values.max())
    if value is None:
        return None
    baseline = said.baselines.get(split)
    if baseline is None or not baseline.images or not said.percent(said.primary) or not 0 <= value <= 1:
        return Result(split, value, baseline)
    return Result(split, value, baseline, *interval(value, baseline.images))


def validation(run: RunFolder, said: Description) -> Series | None:
    """Return the validation values of the primary metric: of the averaged weights if there are any."""
    return run.metrics.find(f"ema_{said.primary}", "eval") or run.metrics.find(said.primary, "eval")


def learned_something(run: RunFolder, said: Description) -> bool | None:
    """Return whether a run's result is better than that of a model that learned nothing; None if it cannot be told.

    The result is the primary metric on the test images, else on those to validate with; without a primary metric that
    of a probe of the last weights, else the loss.
    """
    if said.primary:
        found = result(run, said, "test") or result(run, said, "val")
        return None if found is None else found.better
    last = (None, run.metrics.step)  # a run that went on since has not been probed
    probed = [table.better for table in run.tables if table.better is not None and table.step in last]
    if probed:
        return any(probed)
    baseline, recent = said.baselines.get("train"), recent_loss(run)
    return None if baseline is None or recent is None else recent < baseline.value


def recent_loss(run: RunFolder) -> float | None:
    """Return the loss that the curve ends at: the mean of the last fiftieth, as one batch's is noisy."""
    loss = run.metrics.find("loss")
    return None if loss is None else float(loss.values[-max(1, len(loss.values) // 50) :].mean())


def comparison(run: RunFolder, said: Description) -> str:
    """Return a sentence on what a model that learned nothing would score; empty if that is not known."""
    found = result(run, said, "test") or result(run, said, "val")
    if found is None or found.baseline is None:
        return ""
    chance = percent(found.baseline.value) if said.percent(said.primary) else number(found.baseline.value)
    what = found.baseline.description or "a model that learned nothing"
    brackets = "" if found.low is None else " In brackets: 95 % confidence, from the number of images."
    if found.better:
        return f"Chance is {chance} ({what}).{brackets}"
    unsure = "" if found.low is None else f" as far as {found.baseline.images:,} images can tell"
    return f"That is no better than chance{unsure}: {chance} ({what}).{brackets}"


def _test_score(by_weights: Any, name: str) -> float | None:
    """The score of the averaged weights, else of the plain ones."""
    if isinstance(by_weights, dict):
        for found in (by_weights.get("average"), by_weights.get("plain")):
            if isinstance(found, dict) and is_number(found.get(name)):
                return float(found[name])
    return None
