"""Images that a program holds: arrays, tensors and images of Pillow's, opened as files are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnextv2.data.files.decoders.opened import About, NotReadError, Opened
from convnextv2.data.files.decoders.pillow import PillowImage
from convnextv2.data.files.raster import Layout
from convnextv2.data.files.values import WIDE, ValueRange, Values

_KEYS = ("image", "img")
_SHAPES = "(H, W) or (H, W, C); a tensor (H, W) or (C, H, W)"
_OF_PICTURES = "as a picture it has 1, 3 or 4 channels"


def open_item(item: object) -> Opened:
    """Open one image: a PIL image, an array (H, W[, C]), a tensor ([C, ]H, W), or a tuple or mapping that holds one.

    Of a tuple or a list the first entry is the image, as datasets give (image, label); of a mapping "image" or "img".

    - uint8 is what it is, with a fourth channel as alpha; bool is black and white; uint16 is read as in files.
    - Floats run from 0 to 1, as torchvision and scikit-image have them, and other integers from 0 to 255: values
      outside are an error unless there is a value range.

    Raises NotReadError for anything else.
    """
    if isinstance(item, Mapping):
        found = [key for key in _KEYS if key in item]
        if not found:
            raise NotReadError(f"a mapping with {', '.join(map(repr, list(item)[:5]))}: give its image as {_KEYS[0]!r}")
        item = item[found[0]]
    elif isinstance(item, tuple | list) and item:
        item = item[0]
    if isinstance(item, Image.Image):
        return _HeldPillow(item)
    if isinstance(item, np.ndarray):
        return _Array(item, channels_first=False)
    if hasattr(item, "detach") and hasattr(item, "ndim"):
        return _Array(_of_tensor(item), channels_first=True)
    raise NotReadError(f"{type(item).__name__}, which is no image: give arrays, tensors or PIL images")


def _of_tensor(tensor: Any) -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


class _HeldPillow(PillowImage):
    """An image of Pillow's that is already there; turned upright by its EXIF orientation, as a file is."""

    def __init__(self, image: Image.Image) -> None:
        self._image, self._min_side, self._stripped = image, 0, True

    def draft(self, min_side: int) -> None:
        """Change nothing: the image is its caller's."""

    def about(self) -> About:
        """See `Opened.about`."""
        found = super().about()
        return About(f"PIL images, mode {self._image.mode}", wide=found.wide, ramp=found.ramp)


class _Array(Opened):
    """An array or a tensor."""

    def __init__(self, array: NDArray[Any], *, channels_first: bool) -> None:
        if array.ndim == 2:
            array = array[..., None]
        elif channels_first and array.ndim == 3:
            array = np.moveaxis(array, 0, 2)
        self._shape = tuple(np.moveaxis(array, 2, 0).shape if channels_first and array.ndim == 3 else array.shape)
        if array.ndim != 3 or not array.size:
            raise NotReadError(f"an array or tensor of shape {self._shape}: an array is {_SHAPES}")
        if array.dtype.kind not in "biuf":
            raise NotReadError(f"an array of {array.dtype}, not of numbers")
        self._array = array
        self.size = (array.shape[1], array.shape[0])

    def about(self) -> About:
        """See `Opened.about`."""
        kind = self._array.dtype
        return About(f"arrays of {kind}", wide=kind.name not in ("bool", "uint8"))

    def read(self) -> Image.Image | Values:
        """See `Opened.read`."""
        array = self._array
        if array.shape[2] not in (1, 3, 4):
            raise NotReadError(f"an array or tensor of shape {self._shape}: {_OF_PICTURES}")
        if array.dtype == bool:
            array = array.astype(np.uint8) * np.uint8(255)
        if array.dtype == np.uint8:
            array = np.ascontiguousarray(array)
            return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        wide = array.dtype == np.uint16
        shown: ValueRange = WIDE if wide else (0, 1) if array.dtype.kind == "f" else (0, 255)
        colour, alpha = array[..., :3], None
        if array.shape[2] == 4:
            top = shown[1]
            alpha = np.clip(array[..., 3].astype(np.float32) / top, 0, 1)
        return Values(colour, shown, alpha=alpha, fixed=not wide)

    def layout(self) -> Layout:
        """See `Opened.layout`. A fourth channel is alpha only of bytes, as images of 8 bits have it."""
        count = self._array.shape[2]
        return Layout(count, alpha=3 if count == 4 and self._array.dtype == np.uint8 else None)

    def samples(self, bands: Sequence[int]) -> NDArray[Any]:
        """See `Opened.samples`."""
        return self._array[..., list(bands)]
