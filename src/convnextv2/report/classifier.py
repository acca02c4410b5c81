"""What a classifier's run has to say: what it learned from, how good it is, what its pictures show."""

from __future__ import annotations

import math
from typing import Any

from convnextv2.report.run_folder import RunFolder, is_count, is_number
from convnextv2.report.words import TITLES, count, number, percent


def headline(run: RunFolder, model: str) -> str:
    classes = run.section("data").get("classes")
    of = f" of {_classes(run, classes)}" if is_count(classes) else ""
    return f"A classifier{of}: {model}"


def origin(run: RunFolder) -> str:
    """From which weights and on what it is trained: "from random weights on 780 pictures of 10 classes"."""
    data, weights = run.section("data"), run.section("model").get("from")
    parts = []
    if weights:
        parts.append(f"from {weights if weights == 'random weights' else f'the pre-trained weights {weights}'}")
    if is_count(data.get("pictures")):
        parts.append(f"on {count(data['pictures'], 'picture')}")
    if is_count(data.get("classes")):
        parts.append(f"{'with' if _several(run) else 'of'} {_classes(run, data['classes'])}")
    return " ".join(parts) or "a classifier"


def results(run: RunFolder) -> list[str]:
    """The best validation score so far and when it was reached, and that of the test pictures."""
    name, title = ("map", "mAP") if _several(run) else ("top1", "top-1")
    averaged, parts = run.metrics.find(f"ema_{name}", "eval"), []
    series = averaged or run.metrics.find(name, "eval")
    if series is not None:
        best = int(series.values.argmax())  # of equals the first, as the run itself chooses
        epoch, weights = float(series.epoch[best]), " with averaged weights" if averaged else ""
        when = f"epoch {number(round(epoch, 1))}" if math.isfinite(epoch) else f"step {series.step[best]:,.0f}"
        parts.append(f"Best validation {title} {percent(float(series.values[best]))}{weights}, at {when}")
    test = _test_score(run.scores.get("test"), name)
    if test is not None:
        parts.append(f"{'' if parts else f'{TITLES[name]} '}{percent(test)} on the test pictures")
    return [f"{'; '.join(parts)}."] if parts else []


def about_pictures(run: RunFolder) -> dict[str, str]:
    """What each kind of picture shows."""
    judged = "validation pictures" if run.section("data").get("validation_pictures") else "test pictures"
    worst, best = "that the model got wrong while surest", "that the model got right and was surest of"
    if _several(run):
        worst, best = "whose labels are furthest from what the model said", "whose labels are closest to what it said"
    return {
        "confusion-matrix": f"The {judged}: the row is the true class, the column what the model said; blue is right, "
        "orange is wrong.",
        "worst-predictions": f"The {judged} {worst}: look for wrong labels.",
        "best-predictions": f"The {judged} {best}: look for a background or a mark that gives the class away.",
        "training-pictures": "What the model is fed: training pictures, cropped and changed at random, with their "
        "labels.",
    }


def _several(run: RunFolder) -> bool:
    """Whether a picture may have several labels."""
    return run.section("settings").get("multi_label") is True


def _classes(run: RunFolder, amount: int) -> str:
    return count(amount, "label") if _several(run) else count(amount, "class", "classes")


def _test_score(by_weights: Any, name: str) -> float | None:
    """The score of the averaged weights, else of the plain ones."""
    if isinstance(by_weights, dict):
        for found in (by_weights.get("average"), by_weights.get("plain")):
            if isinstance(found, dict) and is_number(found.get(name)):
                return float(found[name])
    return None
