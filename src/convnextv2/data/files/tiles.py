"""Images cut into squares that cover them, each an entry of a list of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.raster import Tile
from convnextv2.errors import BadImageError


@dataclass(frozen=True, eq=False)
class Tiles:
    """The squares that cover the images of a list, row by row.

    whole: the images.  side: of the squares, in pixels.  places: int64 (N, 3), of each its image, top and left.
    """

    whole: ImageList
    side: int
    places: NDArray[np.int64]

    def tile(self, index: int) -> tuple[int, Tile]:
        """Return the image of square `index`, and its place there."""
        image, top, left = self.places[index].tolist()
        return image, Tile(top, left, self.side)


def tiled(images: ImageList, side: int, most: int) -> ImageList:
    """Return the squares of `side` pixels that cover the images, named by image, top and left: "scene.tif:0,512".

    Only headers are read. An image whose header cannot be is one square, which cannot be read either.

    most: pixels of an image of which only a part is read.
    """
    places: list[tuple[int, int, int]] = []
    for index in range(len(images)):
        try:
            with images.open(index, most) as image:
                width, height = image.upright_size()
        except BadImageError:
            width = height = 1
        places += [(index, top, left) for top in range(0, height, side) for left in range(0, width, side)]

    def names() -> Iterator[str]:
        for index, top, left in places:
            yield f"{images.names[index]}:{top},{left}"

    cut = Tiles(images, side, np.array(places, np.int64).reshape(-1, 3))
    return replace(ImageList(images.source, names(), images.root, images.ignored), tiles=cut)
