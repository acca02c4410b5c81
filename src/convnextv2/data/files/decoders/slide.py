"""Whole slides of microscopes' scanners, by OpenSlide (an extra)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnextv2.data.files.decoders.opened import About, NotReadError, Opened
from convnextv2.data.files.raster import Box, Layout
from convnextv2.data.files.values import Values

EXTENSIONS = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu")
"""By the name, for the first bytes are those of a TIFF, a JPEG or a text."""

_AS_TIFF = (".svs",)
"""Without OpenSlide these are read as the TIFF in tiles that they are."""


def is_slide(stream: BinaryIO) -> bool:
    """Whether the name of a file is that of a slide."""
    name = getattr(stream, "name", "")
    return isinstance(name, str) and os.path.splitext(name)[1].lower() in EXTENSIONS


def open_slide(stream: BinaryIO) -> Opened | None:
    """Open a slide; None if a TIFF reader is to do it. Raises NotReadError where OpenSlide is not installed."""
    extension = os.path.splitext(stream.name)[1].lower()
    try:
        import openslide
    except ImportError as error:
        if extension in _AS_TIFF:
            return None
        raise NotReadError("a whole slide: install its reader with `pip install convnextv2[slides]`") from error
    if openslide.OpenSlide.detect_format(stream.name) is None and extension in _AS_TIFF:
        return None
    return Slide(openslide.OpenSlide(stream.name))


class Slide(Opened):
    """The slide at its full magnification, RGB; where nothing was scanned there are no pixels."""

    def __init__(self, slide: Any) -> None:
        """slide: of OpenSlide."""
        self._slide = slide
        self.size = (int(slide.dimensions[0]), int(slide.dimensions[1]))

    def about(self) -> About:
        """See `Opened.about`."""
        return About(f"whole slides ({self._slide.properties.get('openslide.vendor', 'of no known maker')})")

    def layout(self) -> Layout:
        """See `Opened.layout`."""
        return Layout(4, ("red", "green", "blue", "alpha"), alpha=3)

    def read(self) -> Image.Image | Values:
        """See `Opened.read`."""
        return self._slide.read_region((0, 0), 0, self.size)

    def samples(self, bands: Sequence[int]) -> NDArray[Any]:
        """See `Opened.samples`."""
        return np.asarray(self.read())[..., list(bands)]

    def in_parts(self) -> bool:
        """See `Opened.in_parts`."""
        return True

    def part(self, bands: Sequence[int], box: Box) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """See `Opened.part`."""
        top, left, high, wide = box
        return np.asarray(self._slide.read_region((left, top), 0, (wide, high)))[..., list(bands)], None
