"""Image files that other programs wrote from known values, see `fixtures/foreign/make.py`."""

from pathlib import Path

import numpy as np

FILES = Path(__file__).parent / "fixtures" / "foreign"


def values(bands, kind, height=20, width=36):
    """(height, width, bands) of a formula; 4 bands of bytes end in alpha, 0 in a corner."""
    y, x, band = np.mgrid[:height, :width, :bands]
    found = y * 977 + x * 131 + band * 5003 + 7
    if kind == "uint8":
        bytes_ = (found % 251).astype(np.uint8)
        if bands == 4:
            bytes_[..., 3] = 255
            bytes_[:5, :9, 3] = 0
        return bytes_
    if kind.startswith("float"):
        return (found / 8 - 300).astype(kind)
    return (found % 60013 - (30000 if kind.startswith("int") else 0)).astype(kind)
