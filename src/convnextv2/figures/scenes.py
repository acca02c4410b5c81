"""Images beside the classes of their pixels: as colours, over the image, and side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from convnextv2.figures.letters import INK, MARGIN, PAGE, QUIET, TEXT, Letters

_HEIGHT, _WIDEST = 180, 360  # pixels of an image on a wall
_GAP, _ROW, _SWATCH = 12, 20, 14

_OVER = 0.55  # share of the colour over an image
_NONE = 255

Colour = tuple[int, int, int]


def coloured(classes: Tensor, palette: Sequence[Colour]) -> Tensor:
    """Return the colours of classes, uint8 (3, H, W); black where there is none.  classes: uint8 (H, W)."""
    table = torch.zeros(256, 3, dtype=torch.uint8)
    table[: len(palette)] = torch.tensor(palette, dtype=torch.uint8)
    return table[classes.long()].permute(2, 0, 1).contiguous()


def overlay(image: Tensor, classes: Tensor, palette: Sequence[Colour]) -> Tensor:
    """Return an image with the colours of its classes over it, uint8 (3, H, W); as it is where there is no class.

    image: uint8 (1 or 3, H, W).  classes: uint8 (H, W).
    """
    base = image.expand(3, -1, -1).float()
    mixed = (_OVER * coloured(classes, palette).float() + (1 - _OVER) * base).round()
    return torch.where((classes == _NONE)[None], base, mixed).to(torch.uint8)


def scene_wall(
    rows: Sequence[tuple[Tensor, Tensor | None, Tensor | None]],
    captions: Sequence[str],
    palette: Sequence[Colour],
    classes: Sequence[str],
) -> Image.Image:
    """Draw each image beside what is true and what was predicted, with a caption, and a key of the colours.

    rows: image, uint8 (1 or 3, H, W), true and predicted classes, uint8 (H, W), or None for what there is not.
    """
    letters = Letters(TEXT)
    panels = [_panels(image, truth, predicted, palette) for image, truth, predicted in rows]
    titles = ["image", *(["truth"] if any(t is not None for _, t, _ in rows) else [])]
    titles += ["prediction"] if any(p is not None for _, _, p in rows) else []
    widths = [sum(each.width + _GAP for each in row) - _GAP for row in panels]
    across = 1 if len(titles) > 2 else 2
    column = max([*widths, 200]) + 2 * _GAP
    used = sorted({int(v) for _, t, p in rows for m in (t, p) if m is not None for v in np.unique(m.numpy())} - {_NONE})
    key = _key([(classes[v], palette[v]) for v in used if v < len(classes)], across * column, letters)
    down = -(-len(panels) // across)
    step = _HEIGHT + _ROW + _GAP
    sheet = Image.new("RGB", (across * column + 2 * MARGIN, 2 * MARGIN + _ROW + down * step + key.height), PAGE)
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(panels):
        x, y = MARGIN + number % across * column, MARGIN + _ROW + number // across * step
        for place, panel in enumerate(row):
            if number < across:
                draw.text((x, y - _ROW // 2), titles[place], QUIET, letters.font, anchor="lm")
            sheet.paste(panel, (x, y))
            x += panel.width + _GAP
        left = MARGIN + number % across * column
        caption = letters.fit(captions[number], column - 2 * _GAP)
        draw.text((left, y + _HEIGHT + _ROW // 2), caption, INK, letters.font, anchor="lm")
    sheet.paste(key, (MARGIN, MARGIN + _ROW + down * step))
    return sheet


def _panels(
    image: Tensor, truth: Tensor | None, predicted: Tensor | None, palette: Sequence[Colour]
) -> list[Image.Image]:
    found = [_picture(image)]
    if truth is not None:
        found.append(_picture(coloured(truth, palette), sharp=True))
    if predicted is not None:
        found.append(_picture(overlay(image, predicted, palette)))
    return found


def _picture(image: Tensor, sharp: bool = False) -> Image.Image:
    """uint8 (C, H, W) at the height of the wall."""
    found = Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).contiguous().cpu().numpy())
    width = min(max(1, round(found.width * _HEIGHT / found.height)), _WIDEST)
    return found.resize((width, _HEIGHT), Image.Resampling.NEAREST if sharp else Image.Resampling.BICUBIC)


def _key(entries: Sequence[tuple[str, Colour]], width: int, letters: Letters) -> Image.Image:
    """A swatch and a name for each class."""
    placed, x, y = [], 0, 0
    for name, colour in entries:
        text = letters.fit(name, 200)
        wide = int(letters.width(text)) + _SWATCH + 3 * _GAP
        if x and x + wide > width:
            x, y = 0, y + _ROW
        placed.append((x, y, text, colour))
        x += wide
    key = Image.new("RGB", (width, y + _ROW), PAGE)
    draw = ImageDraw.Draw(key)
    for x, y, text, colour in placed:
        draw.rectangle((x, y + 3, x + _SWATCH, y + 3 + _SWATCH), fill=colour)
        draw.text((x + _SWATCH + 6, y + _ROW // 2), text, INK, letters.font, anchor="lm")
    return key
