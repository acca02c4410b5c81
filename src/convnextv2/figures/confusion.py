"""Draw the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import Tensor

from convnextv2.figures.canvas import render
from convnextv2.figures.letters import GRID, INK, QUIET, TEXT, Letters

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_SCALE = ("#7d3303", "#c2570c", "#f0b587", "#ffffff", "#b9cde4", "#2563a8", "#123c6c")  # all wrong, none, all right

# All sizes are pixels.
_SIDE = 800  # of the cells of the matrix together, about
_KEY = 240  # height of the colour key
_COUNTED = 20  # up to so many classes have their counts written in the cells
_LABEL, _PITCH, _LABEL_WIDTH = 13, 16, 180


def confusion_picture(matrix: Tensor, classes: Sequence[str]) -> Image.Image:
    """Draw the confusion matrix: row the true class, column the predicted one.

    matrix: counts, (K, K), K at least 1.
    A cell's colour is its share of the row, blue on the diagonal and orange beside it, on the scale of the square
    root so that rare mistakes show. A class without images has a grey row. Up to 20 classes the counts are written
    in; from 51 on, every n-th class is named.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    counts = matrix.cpu().numpy()
    size = len(counts)
    cell = max(1, min(_SIDE // size, max(120, _KEY // size)))
    side = min(cell * size, 1000)
    figure = Figure(figsize=(side / 72, side / 72), dpi=72)
    axes = figure.add_axes((0, 0, 1, 1))
    colours = LinearSegmentedColormap.from_list("wrong and right", _SCALE, N=257).with_extremes(bad=GRID)
    shades = _shades(counts)
    image = axes.imshow(shades, cmap=colours, vmin=-1, vmax=1)
    key = figure.add_axes((1 + 24 / side, 1 - _KEY / side, 12 / side, _KEY / side))
    figure.colorbar(image, cax=key)
    _name(axes, classes, side / size)
    _explain(key)
    if cell >= _PITCH:
        lines = np.arange(1, size) - 0.5
        axes.hlines(lines, -0.5, size - 0.5, color=GRID, linewidth=1)
        axes.vlines(lines, -0.5, size - 0.5, color=GRID, linewidth=1)
    if size <= _COUNTED:
        _write_counts(axes, counts, shades, cell)
    return render(figure)


def _shades(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Square root of the share of the row, below zero off the diagonal; NaN in a row without images."""
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, where=totals > 0, out=np.full(counts.shape, np.nan))
    return np.sqrt(shares) * np.where(np.eye(len(counts)), 1, -1)


def _name(axes: Axes, classes: Sequence[str], cell: float) -> None:
    """Names of the classes along both sides, as many as are legible with cells of that many pixels."""
    letters = Letters(_LABEL)
    step = math.ceil(_PITCH / cell)
    places = range(0, len(classes), step)
    names = [letters.fit(classes[place], _LABEL_WIDTH) for place in places]
    style: dict[str, Any] = {"fontproperties": letters.properties, "color": INK, "parse_math": False}
    axes.set_yticks(places, names, **style)
    if max(map(letters.width, names)) <= step * cell - 8:
        style |= {"va": "baseline"}
    elif step * cell >= 1.6 * _PITCH:
        style |= {"rotation": 45, "rotation_mode": "anchor", "ha": "right"}
    else:
        style |= {"rotation": 90}
    axes.set_xticks(places, names, **style)
    axes.tick_params(length=0, pad=6)
    if "va" in style:
        axes.tick_params(axis="x", pad=6 + _LABEL)
    for put, word in ((axes.set_xlabel, "predicted"), (axes.set_ylabel, "true")):
        put(word, fontproperties=letters.properties, fontsize=TEXT, color=QUIET, labelpad=10)
    for spine in axes.spines.values():
        spine.set_color(GRID)


def _explain(key: Axes) -> None:
    """Ticks of the colour key: what share of a true class a shade means."""
    shares = {-1: "100 % wrong", -0.5: "25 %", -0.2: "4 %", 0: "0", 0.2: "4 %", 0.5: "25 %", 1: "100 % right"}
    style: dict[str, Any] = {"fontproperties": Letters(_LABEL).properties, "color": QUIET}
    key.set_yticks(list(shares), list(shares.values()), **style)
    key.tick_params(length=0, pad=6)
    key.spines["outline"].set_color(GRID)


def _write_counts(axes: Axes, counts: NDArray[np.int64], shades: NDArray[np.float64], cell: int) -> None:
    digits = len(str(counts.max()))
    style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontproperties": Letters(TEXT).properties}
    style["fontsize"] = min(TEXT, (cell - 6) / (0.64 * digits))
    for row, column in zip(*np.nonzero(counts + np.eye(len(counts), dtype=int)), strict=True):
        dark = abs(shades[row, column]) > 0.6
        axes.text(column, row, str(counts[row, column]), color="white" if dark else INK, **style)
