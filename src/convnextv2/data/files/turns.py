"""Arrays turned upright by an orientation of EXIF and TIFF."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return pixels, (H, W, ...), as they are meant to be seen; an orientation that is not 1 to 8 changes nothing."""
    match orientation:
        case 2:
            return pixels[:, ::-1]
        case 3:
            return pixels[::-1, ::-1]
        case 4:
            return pixels[::-1]
        case 5:
            return pixels.swapaxes(0, 1)
        case 6:
            return np.rot90(pixels, -1)
        case 7:
            return pixels[::-1, ::-1].swapaxes(0, 1)
        case 8:
            return np.rot90(pixels)
    return pixels
