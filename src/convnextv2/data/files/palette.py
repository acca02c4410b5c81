"""Palettes whose index is the intensity, as microscopes write them."""

from __future__ import annotations

import numpy as np
from PIL import Image


def is_ramp(image: Image.Image) -> bool:
    """Whether the palette of an image of mode P runs evenly from dark to bright in colour (a grey one needs no word).

    Evenly: over all its 256 entries the luminance never falls and no channel jumps.
    """
    palette = image.getpalette("RGB")
    if palette is None or len(palette) != 3 * 256:
        return False
    colours = np.array(palette, np.int64).reshape(256, 3)
    light = colours @ (299, 587, 114)
    is_grey = (np.ptp(colours, axis=1) <= 2).all()
    rises = (np.diff(light) >= -1000).all() and light[-1] - light[0] > 25_000
    return bool(not is_grey and rises and (np.abs(np.diff(colours, axis=0)) <= 16).all())


def is_grey(image: Image.Image) -> bool:
    """Whether all colours of the palette of an image of mode P are greys."""
    palette = image.getpalette("RGB") or [0, 1, 2]
    colours = np.array(palette, np.int64).reshape(-1, 3)
    return bool((np.ptp(colours, axis=1) == 0).all())
