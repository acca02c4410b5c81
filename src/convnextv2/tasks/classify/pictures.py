"""Pictures of a classifier's work: the confusion matrix, and a sheet of pictures with what was said of them.

Letters are those of matplotlib's font. A character that it lacks is shown as a box; a matplotlibrc whose font.family
has it mends that.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# The report's light colours; a picture brings its own background.
_PAGE, _INK, _QUIET, _GRID = "#fdfdfb", "#23262b", "#686e77", "#e4e5e3"
_SCALE = ("#7d3303", "#c2570c", "#f0b587", "#ffffff", "#b9cde4", "#2563a8", "#123c6c")  # all wrong, none, all right
_GOOD, _BAD = "#2f7a45", "#b5332a"

# All sizes are pixels.
_MARGIN = 20
_SIDE = 800  # of the cells of the matrix together, about
_KEY = 240  # height of the colour key
_COUNTED = 20  # up to so many classes have their counts written in the cells
_LABEL, _PITCH, _LABEL_WIDTH = 13, 16, 180

_TILE, _TINY = 160, 64  # a picture on the sheet; up to `_TINY` it is enlarged a whole number of times
_TEXT, _ROW, _GAP, _FRAME = 15, 20, 18, 3


def confusion_picture(matrix: Tensor, classes: Sequence[str]) -> Image.Image:
    """The confusion matrix: row the true class, column the predicted one.

    matrix: counts, (K, K), K at least 1.
    A cell's colour is its share of the row, blue on the diagonal and orange beside it, on the scale of the square
    root so that rare mistakes show. A class without pictures has a grey row. Up to 20 classes the counts are written
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
    colours = LinearSegmentedColormap.from_list("wrong and right", _SCALE, N=257).with_extremes(bad=_GRID)
    shades = _shades(counts)
    image = axes.imshow(shades, cmap=colours, vmin=-1, vmax=1)
    key = figure.add_axes((1 + 24 / side, 1 - _KEY / side, 12 / side, _KEY / side))
    figure.colorbar(image, cax=key)
    _name(axes, classes, side / size)
    _explain(key)
    if cell >= _PITCH:
        lines = np.arange(1, size) - 0.5
        axes.hlines(lines, -0.5, size - 0.5, color=_GRID, linewidth=1)
        axes.vlines(lines, -0.5, size - 0.5, color=_GRID, linewidth=1)
    if size <= _COUNTED:
        _write_counts(axes, counts, shades, cell)
    return _render(figure)


def prediction_sheet(
    images: Tensor, lines: Sequence[Sequence[str]], good: Sequence[bool] | None = None, columns: int = 6
) -> Image.Image:
    """Pictures in rows, each with its lines of text below it.

    images: uint8 (N, C, H, W) with 1 or 3 channels; small ones are enlarged, large ones reduced, to about 160 pixels.
    lines: of each picture; a line too long is broken once, then cut in its middle.
    good: whether each picture gets a green frame or a red one.
    """
    assert len(lines) == len(images)
    letters = _Letters(_TEXT)
    tiles = [_tile(image) for image in images]
    width, height = tiles[0].size if tiles else (_TILE, 0)
    column = max(width, _TILE)
    captions = [[letters.wrap(line, column) for line in picture] for picture in lines] or [[["no pictures"]]]
    across = min(columns, len(captions))
    rows = max(sum(map(len, caption)) for caption in captions)
    step_x, step_y = column + 2 * _FRAME + _GAP, height + 3 * _FRAME + rows * _ROW + _GAP
    down = -(-len(captions) // across)
    sheet = Image.new("RGB", (across * step_x - _GAP + 2 * _MARGIN, down * step_y - _GAP + 2 * _MARGIN), _PAGE)
    draw = ImageDraw.Draw(sheet)
    for number, caption in enumerate(captions):
        x, y = _MARGIN + number % across * step_x, _MARGIN + number // across * step_y
        if tiles:
            if good is not None:
                corner = (x + width + 2 * _FRAME - 1, y + height + 2 * _FRAME - 1)
                draw.rectangle((x, y, *corner), fill=_GOOD if good[number] else _BAD)
            sheet.paste(tiles[number], (x + _FRAME, y + _FRAME))
        y += height + 3 * _FRAME + _ROW // 2
        for place, rows_of_line in enumerate(caption):
            for row in rows_of_line:
                draw.text((x + _FRAME, y), row, _QUIET if place else _INK, letters.font, anchor="lm")
                y += _ROW
    return sheet


class _Letters:
    """matplotlib's font at a size in pixels: makes lines of text fit."""

    def __init__(self, size: int) -> None:
        from matplotlib.font_manager import FontProperties, findfont, get_font

        path = findfont(FontProperties())
        self.font = ImageFont.truetype(path, size)
        self.properties = FontProperties(fname=path, size=size)
        self._known = get_font(path).get_charmap()

    def width(self, text: str) -> float:
        return self.font.getlength(text)

    def fit(self, text: str, width: float) -> str:
        """`text`, without some of its middle where it is too wide."""
        text = self._printable(text)
        if self.width(text) <= width:
            return text
        for keep in range(min(len(text), int(width)) - 1, 1, -1):
            end = len(text) - keep // 3
            shorter = f"{text[: keep - keep // 3].rstrip()}…{text[end:].lstrip()}"
            if self.width(shorter) <= width:
                return shorter
        return "…"

    def wrap(self, text: str, width: float) -> list[str]:
        """One row, or two with the break between words and the second cut to fit."""
        words = self._printable(text).replace(" %", "\u00a0%").split(" ")
        for count in range(len(words), 0, -1):
            first, rest = " ".join(words[:count]), " ".join(words[count:])
            if self.width(first) <= width:
                return [first, self.fit(rest, width)] if rest else [first]
        return [self.fit(" ".join(words), width)]

    def _printable(self, text: str) -> str:
        return "".join(c if ord(c) in self._known else "□" for c in text)


def _tile(image: Tensor) -> Image.Image:
    """uint8 (C, H, W) at the size of the sheet."""
    picture = Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).contiguous().cpu().numpy())
    longest = max(picture.size)
    factor = round(_TILE / longest) if longest <= _TINY else _TILE / longest
    width, height = (max(1, round(side * factor)) for side in picture.size)
    filter = Image.Resampling.NEAREST if longest <= _TINY else Image.Resampling.BICUBIC
    return picture.resize((width, height), filter)


def _shades(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Square root of the share of the row, below zero off the diagonal; NaN in a row without pictures."""
    pictures = counts.sum(1, keepdims=True)
    shares = np.divide(counts, pictures, where=pictures > 0, out=np.full(counts.shape, np.nan))
    return np.sqrt(shares) * np.where(np.eye(len(counts)), 1, -1)


def _name(axes: Axes, classes: Sequence[str], cell: float) -> None:
    """Names of the classes along both sides, as many as are legible with cells of that many pixels."""
    letters = _Letters(_LABEL)
    step = math.ceil(_PITCH / cell)
    places = range(0, len(classes), step)
    names = [letters.fit(classes[place], _LABEL_WIDTH) for place in places]
    style: dict[str, Any] = {"fontproperties": letters.properties, "color": _INK, "parse_math": False}
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
        put(word, fontproperties=letters.properties, fontsize=_TEXT, color=_QUIET, labelpad=10)
    for spine in axes.spines.values():
        spine.set_color(_GRID)


def _explain(key: Axes) -> None:
    """Ticks of the colour key: what share of a true class a shade means."""
    shares = {-1: "100 % wrong", -0.5: "25 %", -0.2: "4 %", 0: "0", 0.2: "4 %", 0.5: "25 %", 1: "100 % right"}
    style: dict[str, Any] = {"fontproperties": _Letters(_LABEL).properties, "color": _QUIET}
    key.set_yticks(list(shares), list(shares.values()), **style)
    key.tick_params(length=0, pad=6)
    key.spines["outline"].set_color(_GRID)


def _write_counts(axes: Axes, counts: NDArray[np.int64], shades: NDArray[np.float64], cell: int) -> None:
    digits = len(str(counts.max()))
    style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontproperties": _Letters(_TEXT).properties}
    style["fontsize"] = min(_TEXT, (cell - 6) / (0.64 * digits))
    for row, column in zip(*np.nonzero(counts + np.eye(len(counts), dtype=int)), strict=True):
        dark = abs(shades[row, column]) > 0.6
        axes.text(column, row, str(counts[row, column]), color="white" if dark else _INK, **style)


def _render(figure: Figure) -> Image.Image:
    """All that was drawn, with a margin."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=72, facecolor=_PAGE, bbox_inches="tight", pad_inches=_MARGIN / 72)
    return Image.open(buffer).convert("RGB")
