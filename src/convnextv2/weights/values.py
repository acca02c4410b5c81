"""Values of a file's metadata, ours or another project's: each kind is checked by one function, which says its range.

Text from a file may be anything, by damage or on purpose: nothing here trusts a type, a length or a range.
"""

from __future__ import annotations

import math
import re

from convnextv2.records import LARGEST_SIDE, Bands, Preprocessing
from convnextv2.text import shown

_LONGEST_NAME = 1000  # characters of a class's name
_SMALLEST_SHARE = 0.05  # a crop of less would enlarge an image more than twentyfold
_MOST_BANDS = 4096
_STATISTIC = 1e4  # largest size of a mean, or of a standard deviation or its inverse


def side(value: object) -> int:
    """Return an image size in pixels, 1 to `LARGEST_SIDE`. Raises ValueError for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_SIDE:
        raise ValueError(f"its image size is {_said(value)}, not 1 to {LARGEST_SIDE}")
    return value


def share(value: object) -> float:
    """Return the share of an image that a crop keeps, 0.05 to 1. Raises ValueError for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not _SMALLEST_SHARE <= value <= 1:
        raise ValueError(f"its crop_pct is {_said(value)}, not {_SMALLEST_SHARE} to 1")
    return float(value)


def statistics(mean: object, std: object) -> Preprocessing:
    """Return a mean and a standard deviation per channel. Raises ValueError if they are not, or make no numbers."""
    for values in (mean, std):
        if not isinstance(values, list | tuple) or not all(
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
        ):
            raise ValueError(f"its mean or std is {_said(values)}")
    assert isinstance(mean, list | tuple)
    assert isinstance(std, list | tuple)
    if len(mean) != len(std) or not all(abs(m) <= _STATISTIC for m in mean):
        raise ValueError(f"its mean {_said(mean)} and std {_said(std)} do not belong together")
    if not all(1 / _STATISTIC <= s <= _STATISTIC for s in std):
        raise ValueError(f"its std is {_said(std)}, not {1 / _STATISTIC:g} to {_STATISTIC:g}")
    return Preprocessing(tuple(map(float, mean)), tuple(map(float, std)))


def bands(said: object, mean: object, std: object) -> Preprocessing:
    """Return the preprocessing of files that are read as numbers. Raises ValueError or TypeError if it makes no sense.

    said: of `Bands`, as JSON has them.
    """
    if not isinstance(said, dict):
        raise ValueError(f"its bands are {_said(said)}")
    found = Bands(
        count=_number(said["count"]),
        channels=tuple(map(_number, said["channels"])),
        names=tuple(line(name, "name of a band") for name in said.get("names", ())),
        files=tuple(line(name, "pattern of files") for name in said.get("files", ())),
        format=line(said.get("format", "float32"), "format"),
        nodata=None if said.get("nodata") is None else float(said["nodata"]),
        clip=tuple((float(low), float(high)) for low, high in said.get("clip", ())),
        show=tuple(map(_number, said.get("show", ()))),
        stretch=tuple((float(low), float(high)) for low, high in said.get("stretch", ())),
    )
    for values in (mean, std):
        if not isinstance(values, list | tuple) or len(values) != len(found.channels):
            raise ValueError(f"its mean or std is {_said(values)}, of {len(found.channels)} channels")
    assert isinstance(mean, list | tuple)
    assert isinstance(std, list | tuple)
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in (*mean, *std)) or not all(s > 0 for s in std):
        raise ValueError(f"its mean or std is {_said(mean)}, {_said(std)}")
    return Preprocessing(tuple(map(float, mean)), tuple(map(float, std)), bands=found)


def class_names(value: object) -> tuple[str, ...]:
    """Return names of classes, as folders and tables have them. Raises ValueError for what are none."""
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"its classes are {_said(value)}, no list of names")
    for name in value:
        if len(name) > _LONGEST_NAME:
            raise ValueError(f"the name of a class is {len(name):,} characters long")
        name.encode(errors="surrogateescape")  # names of files that are not UTF-8 are fine, other surrogates are not
    return tuple(value)


def line(value: object, what: str, longest: int = 2000) -> str:
    """Return a text that can be printed on a line.  what: of the file. Raises ValueError for anything else."""
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise ValueError(f"its {what} is {_said(value)}")
    return value


def whole(text: str, what: str) -> int:
    """Return a whole number of 0 or more from its digits. Raises ValueError for anything else."""
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,15}", text):
        raise ValueError(f"its {what} is {_said(text)}")
    return int(text)


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_BANDS:
        raise ValueError(f"a band is {_said(value)}, not 0 to {_MOST_BANDS}")
    return value


def _said(value: object) -> str:
    """A value on a line, no more of it than is of use."""
    try:
        text = repr(value[:6] if isinstance(value, list | tuple | str) else value)
    except ValueError:  # a number of too many digits
        return "a number of thousands of digits"
    return shown(text)[:60]
