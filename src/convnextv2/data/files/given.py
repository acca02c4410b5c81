"""What a call was given for its images: paths, or the images themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from PIL import Image

from convnextv2.data.files.decoders.in_memory import open_item
from convnextv2.data.files.decoders.opened import NotReadError
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.in_memory import ImagesInMemory, Indexable
from convnextv2.data.files.path_list import PathList
from convnextv2.data.files.paths import pictures_at
from convnextv2.errors import UserError
from convnextv2.settings import StrPath
from convnextv2.text import one_line

Images: TypeAlias = StrPath | Indexable | Iterable[Any]
"""What a call takes for images.

- A path, or several of them: folders, text files of paths, image files.
- Images: a PIL image, an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), a tensor (C, H, W), or several of them: a
  list, an array (N, H, W) or (N, H, W, C), a tensor (N, H, W) or (N, C, H, W).
- A map-style dataset whose entries are images, tuples that begin with one, or mappings with "image" or "img".

See `data.files.decoders.in_memory.open_item` for what their values mean.
"""

_CHANNELS = (1, 3, 4)


def is_path(given: object) -> TypeGuard[StrPath]:
    """Whether it is one path."""
    return isinstance(given, str | os.PathLike)


def images_of(given: Images) -> ImageList:
    """Return the images that a call was given, see `Images`; nothing has been decoded but the first in memory.

    Paths stay as given, those of folders and text files joined to their folder. Images in memory are named by number.

    Raises UserError if there are none, a path does not exist, or it is something else.
    """
    if is_path(given):
        return ImageList(Path(given), pictures_at([given]), Path())
    items = _several(given)
    first = next(iter(items), None) if len(items) else None  # pyright: ignore[reportArgumentType]
    if first is None:
        raise UserError("no images given: give paths of images or folders, arrays, PIL images, or a dataset of them")
    if is_path(first):
        names = PathList(pictures_at(_paths(items)))
        return ImageList(Path("the given paths"), names, Path())
    try:
        open_item(first)
    except NotReadError as error:
        raise UserError(f"these are no images: the first is {one_line(error)}") from None
    count = len(items)
    names = (f"{number:0{len(str(count - 1))}d}" for number in range(count))
    return ImageList(Path("memory"), names, Path(), held=ImagesInMemory(items, np.arange(count)))


def _several(given: Any) -> Any:
    """What was given as images by index: a single one in a list, what can only be iterated over as a list."""
    if isinstance(given, Image.Image):
        return [given]
    is_tensor: bool = hasattr(given, "detach") and hasattr(given, "ndim")
    if is_tensor or isinstance(given, np.ndarray):
        if isinstance(given, np.ndarray) and given.dtype.kind in "OUS":
            return given.tolist()
        channels = given.shape[0 if is_tensor else -1] if given.ndim == 3 else 0
        if given.ndim not in (2, 3, 4):
            kind = "a tensor" if is_tensor else "an array"
            raise UserError(f"{kind} of shape {tuple(given.shape)} holds no images: give (N, {_axes(is_tensor)})")
        if not isinstance(given, np.ndarray):
            given = given.detach().cpu()  # forked processes have no use of a GPU
        return [given] if given.ndim == 2 or channels in _CHANNELS else given
    if isinstance(given, Mapping | bytes) or not (hasattr(given, "__iter__") or hasattr(given, "__getitem__")):
        raise UserError(
            f"{type(given).__name__} holds no images: give paths of images or folders, arrays, PIL images, or a dataset"
        )
    if hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        return given
    try:
        return list(given)
    except TypeError as error:  # a dataset without a length
        kind = type(given).__name__
        raise UserError(f"{kind}: give a map-style dataset, one with a length: {one_line(error)}") from None


def _axes(is_tensor: bool) -> str:
    return "C, H, W" if is_tensor else "H, W, C"


def _paths(items: Any) -> Iterable[StrPath]:
    """The same, each checked to be a path."""
    for each in items:
        if not is_path(each):
            raise UserError(f"paths and a {type(each).__name__} are mixed: give paths only, or images only")
        yield each
