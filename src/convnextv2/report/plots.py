"""The page's plots: which series share one, their titles, and their places."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from convnextv2.report.curves import Curve, Line, Look, Style, draw
from convnextv2.report.description import Description
from convnextv2.report.metrics import Metrics, Series

_LOSS_WIDE = Style(width=780, height=320, log=True)
_LOSS_NARROW = Style(width=350, height=260, log=True)
_BESIDE = Style(height=250)
_AVERAGED = " Averaged: with the EMA of the weights; plain: with the weights of that step."
# Curves beside the primary metric and the loss; a task that logs more has them in the table of numbers.
_MOST_OTHERS = 24
_PREFIX = "ema_"  # of an evaluation with the averaged weights


@dataclass(frozen=True)
class Plot:
    """A drawing on the page; `narrow` is that for a phone if the other would be too small.

    legend: look and meaning of each line; empty if there is only one.
    """

    title: str
    curve: Curve
    legend: Sequence[tuple[str, str]] = field(default_factory=list)
    narrow: Curve | None = None


@dataclass(frozen=True)
class Plots:
    """The primary metric and the loss beside each other, or only the loss; learning rate and throughput; all others.

    about: what the metric is, and what the lines are.
    """

    learning: list[Plot]
    about: str
    loss: Plot | None
    pace: list[Plot]
    others: list[Plot]


def plots(metrics: Metrics, said: Description) -> Plots:
    """Draw all series, with the task's titles and descriptions of the metrics."""
    pace = {"lr": Style(smooth=False), "images_per_second": Style(from_zero=True)}
    learning, about, alone, loss = [], "", None, _lines(metrics, "loss")
    lines = _lines(metrics, said.primary) if said.primary else []
    if lines:
        learning = [_plot(said.primary, said.primary, lines, _BESIDE, said)]
        learning += [_plot("loss", "loss", loss, replace(_BESIDE, log=True), said)] if loss else []
        meaning = said.metrics[said.primary].description if said.primary in said.metrics else ""
        about = f"{meaning}{_AVERAGED if any(line.look == 'second' for line in lines) else ''}"
    elif loss:
        wide, narrow = (_plot(f"loss{s.width}", "loss", loss, s, said) for s in (_LOSS_WIDE, _LOSS_NARROW))
        alone = replace(wide, narrow=narrow.curve)
    return Plots(
        learning=learning,
        about=about,
        loss=alone,
        pace=[
            _plot(name, name, found, style, said) for name, style in pace.items() if (found := _lines(metrics, name))
        ],
        others=_others(metrics, {"loss", said.primary if lines else None, *pace}, said),
    )


def _others(metrics: Metrics, done: Collection[str | None], said: Description) -> list[Plot]:
    names = dict.fromkeys(_name(s) for s in metrics.series if s.phase != "end" and _name(s) not in done)
    found = []
    for index, name in enumerate(names):
        # A value that never changes is better read as a number than as a straight line.
        lines = [line for line in _lines(metrics, name) if line.series.values.min() < line.series.values.max()]
        if lines and len(found) < _MOST_OTHERS:
            found.append(_plot(f"other{index}", name, lines, Style(), said))
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


def _plot(key: str, name: str, lines: list[Line], style: Style, said: Description) -> Plot:
    values = [line.series.values for line in lines]
    percent = said.percent(name) and all(v.min() >= 0 and v.max() <= 1 for v in values)
    curve = draw(key, lines, replace(style, percent=percent))
    legend = [(line.look, line.meaning) for line in lines] if len(lines) > 1 else []
    return Plot(said.title(name), curve, legend)


def _name(series: Series) -> str:
    """The name of what was measured, with whichever weights."""
    return series.name.removeprefix(_PREFIX) if series.phase == "eval" else series.name
