"""Parts of images as entries of a list of their own: squares that cover them, or their pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convnextv2.data.files.decoders.opened import Opened
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.raster import Tile
from convnextv2.errors import BadImageError


@dataclass(frozen=True, eq=False)
class Parts:
    """Which part of which image each entry of a list is.

    whole: the images.  places: int64 (N, ...), of each entry its image, then where it is there.
    """

    whole: ImageList
    places: NDArray[np.int64]

    def image(self, index: int) -> int:
        """Return the image that entry `index` is a part of."""
        return int(self.places[index, 0])

    @contextmanager
    def open(self, index: int, max_pixels: int, min_side: int | None) -> Iterator[Opened]:
        """Open the file of entry `index`, see `ImageList.open`."""
        with self.whole.open(self.image(index), max_pixels, min_side) as image:
            yield image


@dataclass(frozen=True, eq=False)
class Tiles(Parts):
    """The squares that cover the images of a list, row by row; `places` are image, top and left.

    side: of the squares, in pixels.
    """

    side: int

    def tile(self, index: int) -> Tile:
        """Return where square `index` lies in its image."""
        _, top, left = self.places[index].tolist()
        return Tile(top, left, self.side)


@dataclass(frozen=True, eq=False)
class Pages(Parts):
    """The pages of the files of a list; `places` are image and page, from 0."""

    @contextmanager
    def open(self, index: int, max_pixels: int, min_side: int | None) -> Iterator[Opened]:
        """Open one page of its file."""
        image, page = self.places[index].tolist()
        with self.whole.open(image, max_pixels, min_side) as file:
            yield file.page(page)


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
    names = (f"{images.names[index]}:{top},{left}" for index, top, left in places)
    cut = Tiles(images, np.array(places, np.int64).reshape(-1, 3), side)
    return replace(ImageList(images.source, names, images.root, images.ignored), parts=cut)


def paged(images: ImageList, most: int) -> ImageList:
    """Return every page of the files, those of files with several named by file and page, from 1: "stack.tif:2".

    Only headers are read. A file whose header cannot be has one page, which cannot be read either.

    most: pixels of a file of which only the header is read.
    """
    places: list[tuple[int, int]] = []
    names: list[str] = []
    for index in range(len(images)):
        try:
            with images.open(index, most) as image:
                count = image.pages()
        except BadImageError:
            count = 1
        places += [(index, page) for page in range(count)]
        name = images.names[index]
        names += [name] if count == 1 else [f"{name}:{page + 1}" for page in range(count)]
    cut = Pages(images, np.array(places, np.int64).reshape(-1, 2))
    return replace(ImageList(images.source, names, images.root, images.ignored), parts=cut)
