"""The page's plots: which series share one, what they are called, and where they stand."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from convnextv2.report import words
from convnextv2.report.curves import Curve, Line, Look, Style, draw
from convnextv2.report.metrics import Metrics, Series

_LOSS_WIDE = Style(width=780, height=320, log=True)
_LOSS_NARROW = Style(width=350, height=260, log=True)
_BESIDE = Style(height=250)
# What counts as accuracy, and what it says.
_ACCURACY = {
    "top1": "Top-1: the share of pictures for which the right class came first.",
    "map": "mAP: how well the pictures with a label are ranked before those without it, averaged over the labels.",
}
_TRAINING = (
    "Training (faint: as recorded, strong: a moving average) is measured on pictures cropped and changed at random, "
    "which are harder than those for validation; its loss also counts smoothed, mixed and weighted labels."
)
_AVERAGED = " Averaged: with the running average of the weights; plain: with the weights as they stood at that step."
# Curves of names that this room does not know; a task that logs more has them in the table of numbers.
_MOST_OTHERS = 24
_PREFIX = "ema_"  # of an evaluation with the averaged weights


@dataclass(frozen=True)
class Plot:
    """A drawing on the page; `narrow` is that for a phone where the other would be too small.

    legend: look and meaning of each line; empty where one line is all.
    """

    title: str
    curve: Curve
    legend: Sequence[tuple[str, str]] = field(default_factory=list)
    narrow: Curve | None = None


@dataclass(frozen=True)
class Plots:
    """Accuracy and loss beside each other, or the loss alone; learning rate and throughput; all the others.

    about: what the accuracy is, and what the lines are.
    """

    learning: list[Plot]
    about: str
    loss: Plot | None
    pace: list[Plot]
    others: list[Plot]


def plots(metrics: Metrics) -> Plots:
    """Draws all there is to draw."""
    pace = {"lr": Style(smooth=False), "images_per_second": Style(from_zero=True)}
    accuracy = next((name for name in _ACCURACY if _lines(metrics, name)), None)
    learning, about, alone, loss = [], "", None, _lines(metrics, "loss")
    if accuracy is not None:
        lines = _lines(metrics, accuracy)
        learning = [_plot(accuracy, accuracy, lines, _BESIDE)]
        learning += [_plot("loss", "loss", loss, replace(_BESIDE, log=True))] if loss else []
        about = f"{_ACCURACY[accuracy]} {_TRAINING}{_AVERAGED if any(line.look == 'second' for line in lines) else ''}"
    elif loss:
        wide, narrow = (_plot(f"loss{style.width}", "loss", loss, style) for style in (_LOSS_WIDE, _LOSS_NARROW))
        alone = replace(wide, narrow=narrow.curve)
    return Plots(
        learning=learning,
        about=about,
        loss=alone,
        pace=[_plot(name, name, lines, style) for name, style in pace.items() if (lines := _lines(metrics, name))],
        others=_others(metrics, {"loss", accuracy, *pace}),
    )


def _others(metrics: Metrics, done: Collection[str | None]) -> list[Plot]:
    names = dict.fromkeys(_name(s) for s in metrics.series if s.phase != "end" and _name(s) not in done)
    found = []
    for index, name in enumerate(names):
        # A value that never changes says more as a number than as a straight line.
        lines = [line for line in _lines(metrics, name) if line.series.values.min() < line.series.values.max()]
        if lines and len(found) < _MOST_OTHERS:
            found.append(_plot(f"other{index}", name, lines, Style()))
    return found


def _lines(metrics: Metrics, name: str) -> list[Line]:
    """Training, and validation with plain and with averaged weights, as far as recorded."""
    plain, averaged = metrics.find(name, "eval"), metrics.find(_PREFIX + name, "eval")
    found: list[tuple[Series | None, Look, str]] = [(metrics.find(name), "training", "training")]
    if averaged is None:
        found.append((plain, "evaluation", "validation"))
    else:
        found.append((plain, "second", "validation, plain"))
        found.append((averaged, "evaluation", "validation, averaged"))
    return [Line(series, look, meaning) for series, look, meaning in found if series is not None]


def _plot(key: str, name: str, lines: list[Line], style: Style) -> Plot:
    values = [line.series.values for line in lines]
    percent = name in words.SHARES and all(v.min() >= 0 and v.max() <= 1 for v in values)
    curve = draw(key, lines, replace(style, percent=percent))
    legend = [(line.look, line.meaning) for line in lines] if len(lines) > 1 else []
    return Plot(words.title(name), curve, legend)


def _name(series: Series) -> str:
    """What was measured, whichever weights it was measured with."""
    return series.name.removeprefix(_PREFIX) if series.phase == "eval" else series.name
