"""A look at a few dozen files of a folder: what their numbers are, and whether the way they are read keeps them apart.

Files of 8 bits cost the reading of their headers; of the others some are decoded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnextv2.data.files.decode import MAX_PIXELS
from convnextv2.data.files.decoders.opened import About
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.values import ValueRange, Values
from convnextv2.errors import BadImageError

FILES = 48
"""How many files are looked at, spread evenly over a list."""

_DECODED = 12  # of these, at most so many of a kind are decoded
_SAMPLED = 250_000  # values of each of them
_FEW_LEVELS = 32  # of 256, that hold nearly all values
_NEARLY_ALL = 0.99
_BETTER = 4  # times as many levels must another range give, before one is called lost


@dataclass(frozen=True)
class Look:
    """What a look found.

    files: how many could be opened.  plain: how many of them have 8 bits, one page and nothing else to tell.
    said: a line about the others; empty if there are none.  lost: a line on how the range is lost and what to give;
    empty if it is not.  outside: share of the values outside the value range in use, 0 to 1.
    """

    files: int
    plain: int
    said: str = ""
    lost: str = ""
    outside: float = 0.0


def look(
    images: ImageList, value_range: ValueRange | None = None, *, files: int = FILES, max_pixels: int = MAX_PIXELS
) -> Look:
    """Look at some files of a list, the same ones every time; those that cannot be read are left out.

    value_range: the values that become black and white, for files of more than 8 bits; None for the defaults.
    """
    count = min(files, len(images))
    kinds: dict[str, _Kind] = {}
    found = plain = 0
    for index in (number * len(images) // count for number in range(count)):
        try:
            about = _look_at(images, index, kinds, max_pixels)
        except BadImageError:
            continue
        found += 1
        plain += about.plain
    described = [kind.describe(value_range, found) for kind in kinds.values()]
    return Look(
        found,
        plain,
        said="; ".join(said for said, _, _ in described),
        lost="; ".join(lost for _, lost, _ in described if lost),
        outside=max((outside for _, _, outside in described), default=0.0),
    )


def _look_at(images: ImageList, index: int, kinds: dict[str, _Kind], max_pixels: int) -> About:
    with images.open(index, max_pixels) as image:
        about = image.about()
        if about.plain:
            return about
        kind = kinds.setdefault(about.kind, _Kind(about.kind, "files" if images.held is None else "images"))
        if about.wide and len(kind.values) < _DECODED:
            values = image.read()
            assert isinstance(values, Values)
            kind.add(values)
        kind.files.append(about)  # at the end: a file that cannot be read does not count
        return about


@dataclass
class _Kind:
    """The files of one kind: what their headers say, and some of their values as they are."""

    name: str
    called: str
    files: list[About] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)
    lowest: float = math.inf
    highest: float = -math.inf

    def add(self, values: Values) -> None:
        """Keep some pixels, spread evenly, and the extremes of all."""
        colour = values.colour
        finite = colour[np.isfinite(colour)] if colour.dtype.kind == "f" else colour
        if not finite.size:
            return
        self.lowest, self.highest = min(self.lowest, float(finite.min())), max(self.highest, float(finite.max()))
        flat = colour.reshape(-1, colour.shape[2])
        kept = flat[:: max(1, flat.size // _SAMPLED)][None]
        shown = values.shown or (float(finite.min()), float(finite.max()))
        if shown[0] < shown[1]:  # else it is flat
            self.values.append(Values(kept, shown, values.white_is_zero, fixed=values.fixed))

    def describe(self, value_range: ValueRange | None, looked: int) -> tuple[str, str, float]:
        """Return the line about them, how the range is lost or "", and the share of values outside the range in use."""
        count = len(self.files)
        parts = [f"{count} of {looked} {self.called} looked at are {self.name}", *self._remarks(value_range)]
        if not self.values:
            return ", ".join(parts), "", 0.0
        numbers = np.concatenate([values.colour.reshape(-1) for values in self.values]).astype(np.float64)
        nan = float(np.isnan(numbers).mean())
        numbers = numbers[np.isfinite(numbers)]
        missing = sorted({*_missing(numbers), *(self._nodata() & set(np.unique(numbers).tolist()))})
        data = numbers[~np.isin(numbers, missing)]
        fitting = _fitting(data, whole=all(values.colour.dtype.kind in "iu" for values in self.values))
        low, high = value_range or (max(values.shown for values in self.values if values.shown))
        outside = float(((data < low) | (data > high)).mean()) if data.size else 0.0
        ends = float(((data <= low) | (data >= high)).mean()) if data.size else 0.0
        parts.append(f"values {_number(self.lowest)} to {_number(self.highest)}")
        parts += [f"{_share(nan)} of them NaN"] if nan else []
        parts += [f"{_share(float((numbers == v).mean()))} of them {_number(v)}, perhaps missing data" for v in missing]
        fit = "" if fitting is None else f"{_number(fitting[0])}:{_number(fitting[1])}"
        is_fixed = value_range is None and any(values.fixed for values in self.values)
        if is_fixed and not low <= self.lowest <= self.highest <= high:
            parts.append(f"read from {_number(low)} to {_number(high)}")
            return ", ".join(parts), f"values lie outside: give --value-range {fit or 'LOW:HIGH'}", outside
        floats = any(values.colour.dtype.kind == "f" for values in self.values)
        own = value_range is None and floats and not is_fixed
        way = (
            "each image from its own smallest to its own largest" if own else f"from {_number(low)} to {_number(high)}"
        )
        parts.append(f"read {way} ({_share(ends)} at the ends)")
        levels = _levels(self.values, missing, value_range)
        better = _levels(self.values, missing, fitting) if fitting else 0
        lost = ""
        if fitting and levels < _FEW_LEVELS and better >= _BETTER * levels:
            lost = f"nearly all values fall into {levels} of 256 grey levels: give --value-range {fit}"
            lost += "" if own or value_range else f"; to read them as now, --value-range {_number(low)}:{_number(high)}"
        elif fitting and value_range is None and not is_fixed and fitting != (low, high):
            parts.append(f"for another range give --value-range LOW:HIGH, as {fit}")
        return ", ".join(parts), lost, outside

    def _nodata(self) -> set[float]:
        return {each.nodata for each in self.files if each.nodata is not None}

    def _remarks(self, value_range: ValueRange | None) -> list[str]:
        """What the headers say beside the kind."""
        pages, left_out = max(each.pages for each in self.files), max(each.left_out for each in self.files)
        named = sorted(self._nodata())
        remarks = []
        if pages > 1:
            remarks.append(f"of up to {pages} pages, of which the first is read")
        if left_out:
            remarks.append(f"with {left_out} more sample{'s' if left_out > 1 else ''} a pixel, not read")
        if any(each.ramp for each in self.files):
            read = "its index is read as grey" if value_range else "--value-range 0:255 reads its index as grey"
            remarks.append(f"with a palette that runs from dark to bright: {read}")
        if named:
            remarks.append(f"with {', '.join(map(_number, named[:3]))} named as missing data in GDAL's tag")
        return remarks


def _missing(numbers: NDArray[np.float64]) -> list[float]:
    """Extreme values that many pixels have and that lie far from all others, as -9999 and 65535 do."""
    found: list[float] = []
    for end in (np.min, np.max):
        rest = numbers[~np.isin(numbers, found)]
        if not rest.size:
            continue
        extreme = float(end(rest))
        others = rest[rest != extreme]
        if others.size < 2 or others.min() == others.max():
            continue
        gap = float(np.abs(others - extreme).min())
        share, apart = float((rest == extreme).mean()), gap / float(np.ptp(others))
        if (share >= 0.0005 and apart > 0.5) or (share >= 0.01 and apart > 0.1):
            found.append(extreme)
    return found


def _fitting(data: NDArray[np.float64], *, whole: bool) -> ValueRange | None:
    """A range that fits the data, in round numbers; None if there is nothing to fit."""
    if not data.size or data.min() == data.max():
        return None
    low, high = (float(value) for value in np.percentile(data, (0.1, 99.9)))
    if whole and data.min() >= 0 and low <= 0.3 * high:
        high = float(data.max()) if data.max() <= 2 * high else high
        bits = max(1, math.ceil(math.log2(high + 1)))
        if bits in (8, 10, 12, 14, 16):  # of a sensor, or of its converter
            return 0, 2**bits - 1
        low = 0.0
    if low == high:
        low, high = float(data.min()), float(data.max())
    step = 10 ** (math.floor(math.log10(high - low)) - 1)
    return math.floor(low / step) * step, math.ceil(high / step) * step


def _levels(images: Sequence[Values], missing: Sequence[float], value_range: ValueRange | None) -> int:
    """How many grey levels hold nearly all values, those that stand for missing data left out."""
    counts = np.zeros(256, np.int64)
    for values in images:
        counted = np.isfinite(values.colour) & ~np.isin(values.colour, missing)
        counts += np.bincount(values.to_bytes(value_range)[counted], minlength=256)
    shares = np.sort(counts)[::-1].cumsum()
    return int(np.searchsorted(shares, _NEARLY_ALL * shares[-1])) + 1 if shares[-1] else 0


def _number(value: Any) -> str:
    return f"{value:.6g}"


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"
