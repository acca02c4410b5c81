"""Draw the statistics of bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from convnextv2.figures.canvas import render
from convnextv2.figures.letters import GRID, INK, QUIET, Letters

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACROSS = 4
_MOST = 16  # bands with a histogram each; more of them are drawn together
_WIDE, _HIGH, _GAP_X, _GAP_Y = 180, 90, 26, 52  # pixels
_FILL, _LIGHT = "#2563a8", "#b9cde4"
_LETTERS = 12


class Band(Protocol):
    """What is drawn of a band: see `data.loading.statistics.BandStatistics`."""

    @property
    def name(self) -> str: ...
    @property
    def clip(self) -> tuple[float, float]: ...
    @property
    def input_mean(self) -> float: ...
    @property
    def histogram(self) -> Sequence[int]: ...
    @property
    def percentiles(self) -> Mapping[str, float]: ...


def statistics_picture(bands: Sequence[Band]) -> Image.Image:
    """Draw the histogram of each band, over the values that a model is shown; of many bands how their values spread."""
    return _histograms(bands) if len(bands) <= _MOST else _spread(bands)


def _histograms(bands: Sequence[Band]) -> Image.Image:
    from matplotlib.figure import Figure

    across = min(_ACROSS, len(bands))
    down = math.ceil(len(bands) / across)
    width, height = across * (_WIDE + _GAP_X) - _GAP_X, down * (_HIGH + _GAP_Y) - _GAP_Y
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    for number, band in enumerate(bands):
        left, top = number % across * (_WIDE + _GAP_X), number // across * (_HIGH + _GAP_Y)
        axes = figure.add_axes((left / width, 1 - (top + _HIGH) / height, _WIDE / width, _HIGH / height))
        edges = np.linspace(*band.clip, len(band.histogram) + 1)
        axes.stairs(band.histogram, edges, fill=True, color=_FILL)
        axes.axvline(band.input_mean, color=INK, linewidth=1)
        axes.set_xlim(*band.clip)
        axes.set_ylim(bottom=0)
        _style(axes, band.name, [float(band.clip[0]), float(band.clip[1])])
        axes.set_yticks([])
    return render(figure)


def _spread(bands: Sequence[Band]) -> Image.Image:
    from matplotlib.figure import Figure

    width, height = 4 * _WIDE, 3 * _HIGH
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    axes = figure.add_axes((0, 0, 1, 1))
    numbers = np.arange(1, len(bands) + 1)
    low, first, median, third, high = (
        [band.percentiles[share] for band in bands] for share in ("0.1", "25", "50", "75", "99.9")
    )
    axes.fill_between(numbers, low, high, color=_LIGHT, linewidth=0)
    axes.fill_between(numbers, first, third, color=_FILL, linewidth=0)
    axes.plot(numbers, median, color=INK, linewidth=1)
    axes.set_xlim(1, len(bands))
    _style(axes, "values of each band: nearly all, the middle half, the median", None)
    return render(figure)


def _style(axes: Axes, title: str, ticks: list[float] | None) -> None:
    letters = Letters(_LETTERS)
    style: dict[str, Any] = {"fontproperties": letters.properties, "color": QUIET}
    name = letters.fit(title, _WIDE if ticks else 4 * _WIDE)
    of_title: dict[str, Any] = {"fontproperties": letters.properties, "color": INK, "parse_math": False}
    axes.set_title(name, loc="left", pad=5, **of_title)
    if ticks:
        axes.set_xticks(ticks, [f"{value:.4g}" for value in ticks], **style)
        for text, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
            text.set_horizontalalignment(side)
    else:
        for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            text.set_fontproperties(letters.properties)
            text.set_color(QUIET)
    axes.tick_params(length=0, pad=4)
    for spine in axes.spines.values():
        spine.set_color(GRID)
