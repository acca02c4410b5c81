"""Curves as inline SVG that takes its colours from the page, so that one drawing suits light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from convnextv2.report.metrics import Floats, Series
from convnextv2.report.words import tick

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Look = Literal["training", "evaluation", "second"]

POINTS = 500
_FEW = 20  # with fewer points no moving average is drawn
_HUGE = 1e100  # axes cannot be laid out near the end of float64's range
# matplotlib knows no CSS variables: it draws with these stand-ins, which are then replaced in its text.
_CURVE, _FAINT, _GRID, _QUIET, _DOTS, _SECOND = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_COLOURS = {
    _CURVE: "var(--curve)",
    _FAINT: "var(--faint)",
    _GRID: "var(--grid)",
    _QUIET: "var(--quiet)",
    _DOTS: "var(--dots)",
    _SECOND: "var(--second)",
}


@dataclass(frozen=True)
class Line:
    """A series and how it is drawn: training as a curve, evaluations (of two kinds of weights) as joined dots."""

    series: Series
    look: Look = "training"
    meaning: str = ""


@dataclass(frozen=True)
class Style:
    """How one drawing looks. Sizes are CSS pixels."""

    width: int = 375
    height: int = 210
    smooth: bool = True
    log: bool = False  # take a logarithmic scale if the values span about an order of magnitude
    from_zero: bool = False
    percent: bool = False  # the values are shares, 0 to 1


@dataclass(frozen=True)
class Curve:
    """A drawing, and the facts that its remarks are made of."""

    svg: str
    x: str
    log: bool
    cut: bool
    dots: bool
    smoothed: bool


def bins(x: Floats, values: Floats, most: int = POINTS) -> tuple[Floats, Floats]:
    """Return the smallest and largest value of each of `most` stretches, so that no spike is lost in the thinning."""
    if len(values) <= 2 * most:
        return x, values
    edges = np.linspace(0, len(values), most, endpoint=False).astype(int)
    low, high = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
    return np.repeat(x[edges], 2), np.stack([low, high], axis=1).ravel()


def smooth(x: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Compute a centred moving average over a fiftieth of the run, at no more than a few hundred places."""
    if len(values) > 2 * POINTS:
        edges = np.linspace(0, len(values), 2 * POINTS, endpoint=False).astype(int)
        sizes = np.diff(np.append(edges, len(values)))
        x, values = np.add.reduceat(x, edges) / sizes, np.add.reduceat(values, edges) / sizes
    n = len(values)
    half = max(2, n // 100)
    # At the start the window is narrow on both sides, so that a steep fall is not averaged flat; at the end
    # only the right side is missing, so that the last value is still an average and not one noisy batch.
    # Each mean is taken by itself: a running sum would not recover from a loss that once shot up to 1e30.
    means = [values[max(0, i - half) : i + min(half, i) + 1].mean() for i in range(n)]
    return x, np.array(means)


def draw(key: str, lines: Sequence[Line], style: Style | None = None) -> Curve:
    """Draw the lines, at least one, in one frame, the last on top; `key` keeps the drawing's ids apart."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style = style or Style()
    by_epoch = all(np.isfinite(line.series.epoch).all() for line in lines)
    figure = Figure(figsize=(style.width / 72, style.height / 72), dpi=72)
    FigureCanvasSVG(figure)
    axes = figure.add_axes((48 / style.width, 38 / style.height, 1 - 56 / style.width, 1 - 48 / style.height))
    every: list[Floats] = []
    shown: list[Floats] = []
    smoothed = False
    for line in lines:
        x = line.series.epoch if by_epoch else line.series.step
        values = np.clip(line.series.values, -_HUGE, _HUGE) * (100 if style.percent else 1)
        every.append(values)
        if line.look == "training":
            smoothed = style.smooth and len(values) >= _FEW
            shown.append(_curve(axes, x, values, smoothed))
        else:
            colour, size = (_DOTS, 4) if line.look == "evaluation" else (_SECOND, 3)
            axes.plot(*bins(x, values), "o-", color=colour, markersize=size, linewidth=1)
            shown.append(values)
    cut, log = _frame(axes, np.concatenate(every), np.concatenate(shown), style)
    axes.set_xlabel("epoch" if by_epoch else "step", color=_QUIET, fontsize=11, labelpad=4)
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = _inline(buffer.getvalue(), key)
    dots = any(line.look != "training" for line in lines)
    return Curve(svg, "epoch" if by_epoch else "step", log, cut, dots, smoothed)


def _curve(axes: Axes, x: Floats, values: Floats, smoothed: bool) -> Floats:
    """Draw the values; returns those that the frame must show."""
    if not smoothed:
        axes.plot(*bins(x, values), color=_CURVE, linewidth=1.8, solid_joinstyle="round")
        return values
    axes.plot(*bins(x, values), color=_FAINT, linewidth=0.9)
    x, middle = smooth(x, values)
    axes.plot(x, middle, color=_CURVE, linewidth=2, solid_joinstyle="round")
    return middle


def _frame(axes: Axes, every: Floats, steady: Floats, style: Style) -> tuple[bool, bool]:
    """Axes, grid and limits; whether single extreme values lie outside the frame, and whether it is logarithmic."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low = min(float(np.quantile(every, 0.005)), float(steady.min()))
    high = max(float(np.quantile(every, 0.995)), float(steady.max()))
    # A frame is worth cutting only if a few spikes would flatten all the rest.
    slack = 0.25 * (high - low)
    if slack == 0 or every.max() - high < slack:
        high = float(every.max())
    if slack == 0 or low - every.min() < slack:
        low = float(every.min())
    log = style.log and low > 0 and bool(steady.min() > 0) and bool(steady.max() > 8 * steady.min())
    if log:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.1, high * 1.1)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_tick_params(which="minor", length=0)
    else:
        pad = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
        bottom, top = 0 if style.from_zero and low >= 0 else low - pad, high + pad
        # Room for a dot, but no tick beyond what a share can be.
        axes.set_ylim(*((max(bottom, -1), min(top, 101)) if style.percent else (bottom, top)))
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    for axis, unit in ((axes.xaxis, ""), (axes.yaxis, " %" if style.percent else "")):
        axis.set_major_formatter(FuncFormatter(lambda value, _, unit=unit: tick(value) + unit))
    axes.margins(x=0.01)
    axes.grid(axis="y", color=_GRID, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=11, labelcolor=_QUIET, pad=6)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    bottom, top = axes.get_ylim()
    return bool(every.max() > top or every.min() < bottom), log


def _inline(svg: str, key: str) -> str:
    """matplotlib's file adapted to be one of several inside a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg, count=1)
    # Ids are one namespace for the whole page.
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{key}-", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    return re.sub(r"\s*\n\s*", "\n", svg).strip()
