"""What the numbers of an image mean: from the values in a file to bytes, 0 (black) to 255 (white)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ValueRange = tuple[float, float]
"""Values that become black and white; linear between, clipped outside."""

WIDE: ValueRange = (0, 65535)
"""What integers of 16 bits and more show from black to white if nobody says otherwise."""


@dataclass(frozen=True)
class Values:
    """The pixels of a file whose samples are not plain bytes, in the file's own numbers.

    colour: (H, W, 1) grey or (H, W, 3) RGB, integers or floats.  shown: the values from black to white by default; None
    stretches each image from its smallest finite value to its largest.  white_is_zero: the other way round.
    alpha: (H, W) float32, 0 to 1, or None.  premultiplied: the colours were multiplied by alpha.
    fixed: values outside `shown` are a mistake, unless another range is given.
    """

    colour: NDArray[Any]
    shown: ValueRange | None
    white_is_zero: bool = False
    alpha: NDArray[np.float32] | None = None
    premultiplied: bool = False
    fixed: bool = False

    def to_bytes(self, value_range: ValueRange | None = None) -> NDArray[np.uint8]:
        """Return uint8 (H, W, 1 or 3): `value_range`, by default `shown`, from black to white; NaN is black.

        Images with alpha are laid over white. Raises ValueError for values outside a fixed range.
        """
        colour = self.colour
        if self.fixed and value_range is None and (outside := self.beyond()):
            raise ValueError(outside)
        if self.alpha is not None and self.premultiplied:
            alpha = self.alpha[..., None]
            colour = np.divide(colour, alpha, out=np.zeros(colour.shape, np.float64), where=alpha > 0)
        shown = value_range or self.shown
        found = _stretched(colour) if shown is None else _to_bytes(colour, shown)
        if self.white_is_zero:
            found = 255 - found
            found[np.isnan(colour)] = 0
        if self.alpha is None:
            return found
        alpha = self.alpha[..., None]
        return np.rint(found * alpha + 255 * (1 - alpha)).astype(np.uint8)

    def beyond(self) -> str:
        """Return how the values leave the range `shown`, and what to give; empty if they do not."""
        finite = self.colour[np.isfinite(self.colour)] if self.colour.dtype.kind == "f" else self.colour
        if self.shown is None or not finite.size or self.shown[0] <= finite.min() <= finite.max() <= self.shown[1]:
            return ""
        low, high = float(finite.min()), float(finite.max())
        return (
            f"values from {low:.6g} to {high:.6g}, where {self.colour.dtype} is read from {self.shown[0]:g} to"
            f" {self.shown[1]:g}: give --value-range LOW:HIGH"
        )


def alpha_of(samples: NDArray[Any], bits: int) -> NDArray[np.float32]:
    """Return alpha samples (H, W) as shares, 0 to 1; integers of `bits` bits, or floats that are shares already."""
    alpha = samples.astype(np.float32)
    if samples.dtype.kind != "f":
        alpha /= 2**bits - 1
    return np.clip(np.nan_to_num(alpha), 0, 1)


def _stretched(values: NDArray[Any]) -> NDArray[np.uint8]:
    """From the smallest finite value to the largest; a flat image is black."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if finite.size == 0 or finite.min() == finite.max():
        return np.zeros(values.shape, np.uint8)
    low, high = finite.min(), finite.max()
    scaled = (np.clip(values.astype(np.float64), low, high) - low) * (255 / (high - low))
    return np.nan_to_num(np.rint(scaled), nan=0).astype(np.uint8)


def _to_bytes(values: NDArray[Any], shown: ValueRange) -> NDArray[np.uint8]:
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:  # a table of all values is faster than arithmetic
        bits = 8 * values.dtype.itemsize
        unsigned = np.dtype(f"u{values.dtype.itemsize}")
        table = _scaled(np.arange(2**bits, dtype=unsigned).view(values.dtype), shown)
        return table[values.astype(values.dtype.newbyteorder("="), copy=False).view(unsigned)]
    return _scaled(values, shown)


def _scaled(values: NDArray[Any], shown: ValueRange) -> NDArray[np.uint8]:
    low, high = shown
    scaled = (np.clip(values.astype(np.float64), low, high) - low) * 255 / (high - low)
    return np.nan_to_num(np.rint(scaled), nan=0).astype(np.uint8)


def number_of(text: str) -> float | None:
    """Return the number that a file's text says; None if it is none."""
    try:
        return float(text.strip().strip("\0").replace(",", "."))
    except ValueError:
        return None
