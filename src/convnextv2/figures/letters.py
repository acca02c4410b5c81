"""Text that fits: matplotlib's font, measured in pixels.

A character that the font lacks is shown as a box; name a font that has it as font.family in a matplotlibrc.
"""

from __future__ import annotations

import re

from PIL import ImageFont

# The report's light colours; a figure brings its own background.
PAGE, INK, QUIET, GRID = "#fdfdfb", "#23262b", "#686e77", "#e4e5e3"
GOOD, BAD = "#2f7a45", "#b5332a"
MARGIN, TEXT = 20, 15  # pixels


class Letters:
    """matplotlib's font at a size in pixels: makes lines of text fit."""

    def __init__(self, size: int) -> None:
        from matplotlib.font_manager import FontProperties, findfont, get_font

        path = findfont(FontProperties())
        self.font = ImageFont.truetype(path, size)
        self.properties = FontProperties(fname=path, size=size)
        self._known = get_font(path).get_charmap()

    def width(self, text: str) -> float:
        """Return the width of a text in pixels."""
        return self.font.getlength(text)

    def fit(self, text: str, width: float) -> str:
        """Return `text`, without some of its middle if it is wider than `width` pixels."""
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
        """Break a text into one row, or two with the break between words and the second cut to fit."""
        words = re.split(r" (?!%)", self._printable(text))  # a number keeps its percent sign
        for count in range(len(words), 0, -1):
            first, rest = " ".join(words[:count]), " ".join(words[count:])
            if self.width(first) <= width:
                return [first, self.fit(rest, width)] if rest else [first]
        return [self.fit(" ".join(words), width)]

    def _printable(self, text: str) -> str:
        return "".join(c if c.isprintable() and ord(c) in self._known else "□" for c in text)
