"""From a figure of matplotlib to an image."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image

from convnextv2.figures.letters import MARGIN, PAGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render(figure: Figure) -> Image.Image:
    """Return a figure as an image, with a margin."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=72, facecolor=PAGE, bbox_inches="tight", pad_inches=MARGIN / 72)
    return Image.open(buffer).convert("RGB")
