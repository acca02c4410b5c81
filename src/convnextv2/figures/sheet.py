"""A sheet of images with captions."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from convnextv2.figures.letters import BAD, GOOD, INK, MARGIN, PAGE, QUIET, TEXT, Letters

# All sizes are pixels.
_TILE, _TINY = 160, 64  # an image on the sheet; up to `_TINY` it is enlarged a whole number of times
_ROW, _GAP, _FRAME = 20, 18, 3


def prediction_sheet(
    images: Tensor, lines: Sequence[Sequence[str]], good: Sequence[bool] | None = None, columns: int = 6
) -> Image.Image:
    """Draw images in rows, each with its lines of text below it.

    images: uint8 (N, C, H, W) with 1 or 3 channels; small ones are enlarged, large ones reduced, to about 160 pixels.
    lines: of each image; a line too long is broken once, then cut in its middle.
    good: whether each image gets a green frame or a red one.
    """
    assert len(lines) == len(images)
    letters = Letters(TEXT)
    tiles = [_tile(image) for image in images]
    width, height = tiles[0].size if tiles else (_TILE, 0)
    column = max(width, _TILE)
    captions = [[letters.wrap(line, column) for line in each] for each in lines] or [[["no images"]]]
    across = min(columns, len(captions))
    rows = max(sum(map(len, caption)) for caption in captions)
    step_x, step_y = column + 2 * _FRAME + _GAP, height + 3 * _FRAME + rows * _ROW + _GAP
    down = -(-len(captions) // across)
    sheet = Image.new("RGB", (across * step_x - _GAP + 2 * MARGIN, down * step_y - _GAP + 2 * MARGIN), PAGE)
    draw = ImageDraw.Draw(sheet)
    for number, caption in enumerate(captions):
        x, y = MARGIN + number % across * step_x, MARGIN + number // across * step_y
        if tiles:
            if good is not None:
                corner = (x + width + 2 * _FRAME - 1, y + height + 2 * _FRAME - 1)
                draw.rectangle((x, y, *corner), fill=GOOD if good[number] else BAD)
            sheet.paste(tiles[number], (x + _FRAME, y + _FRAME))
        y += height + 3 * _FRAME + _ROW // 2
        for place, rows_of_line in enumerate(caption):
            for row in rows_of_line:
                draw.text((x + _FRAME, y), row, QUIET if place else INK, letters.font, anchor="lm")
                y += _ROW
    return sheet


def _tile(image: Tensor) -> Image.Image:
    """uint8 (C, H, W) at the size of the sheet."""
    tile = Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).contiguous().cpu().numpy())
    longest = max(tile.size)
    factor = round(_TILE / longest) if longest <= _TINY else _TILE / longest
    width, height = (max(1, round(side * factor)) for side in tile.size)
    filter = Image.Resampling.NEAREST if longest <= _TINY else Image.Resampling.BICUBIC
    return tile.resize((width, height), filter)
