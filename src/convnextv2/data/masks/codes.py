"""What the numbers and colours of mask files stand for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnextv2.data.files.decode import opened
from convnextv2.data.files.values import Values
from convnextv2.errors import BadImageError, UserError
from convnextv2.text import listed, one_line, shown

NO_CLASS = 255
"""What a pixel without a class is in a mask that was read."""

MOST_CLASSES = 254
"""Masks that were read are bytes, of which `NO_CLASS` and one for what no class has are taken."""

_UNKNOWN = 254
_IGNORE = ("ignore", "ignore_value", "ignore_index", "ignore_colour", "ignore_color")
"""Keys of a class file that name what is no class: a number, a colour, or a list of these."""

_COLOUR = 1 << 24  # added to the code of a colour, so that it differs from every number

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class SceneClasses:
    """The classes of a set of masks.

    names: in the order of the model's outputs.  values: the number of each class in mask files, 0 to 65535.
    palette: a colour for each class, RGB, 0 to 255.  no_class: numbers that stand for no class, beside `NO_CLASS`.
    no_class_colours: colours that do.  coloured: whether masks in colours are read by `palette`.

    Raises UserError for more classes than `MOST_CLASSES`, fewer than two, and lists of different lengths.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    palette: tuple[Colour, ...]
    no_class: tuple[int, ...] = ()
    no_class_colours: tuple[Colour, ...] = ()
    coloured: bool = False
    codes: Mapping[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        count = len(self.names)
        if not 2 <= count <= MOST_CLASSES:
            raise UserError(f"{count} class{'es' * (count != 1)} in the masks: there must be 2 to {MOST_CLASSES}")
        if not count == len(self.values) == len(self.palette):
            raise UserError(f"{count} names, {len(self.values)} values and {len(self.palette)} colours of classes")
        if len(set(self.names)) != count:
            raise UserError(f"two classes have the same name ({listed(self.names)}): give each its own")
        codes = {number: index for index, number in enumerate(self.values)}
        if self.coloured:
            if len(set(self.palette)) != count:
                raise UserError("two classes have the same colour in the palette: give each its own")
            codes |= {code_of(colour): index for index, colour in enumerate(self.palette)}
        codes |= {code_of(colour): NO_CLASS for colour in self.no_class_colours}
        codes |= dict.fromkeys(self.no_class, NO_CLASS)
        codes.setdefault(NO_CLASS, NO_CLASS)
        object.__setattr__(self, "codes", codes)

    def of_codes(self, codes: NDArray[np.int32]) -> tuple[NDArray[np.uint8], list[int]]:
        """Return the classes of a mask's codes (H, W), `NO_CLASS` where there is none; and codes that no class has."""
        known = np.array(sorted(self.codes), np.int32)
        places = np.searchsorted(known, codes).clip(max=len(known) - 1)
        classes = np.array([self.codes[code] for code in known.tolist()], np.uint8)[places]
        unknown = known[places] != codes
        if not unknown.any():
            return classes, []
        classes[unknown] = _UNKNOWN
        return classes, np.unique(codes[unknown]).tolist()

    def renamed(self, order: Sequence[str], where: str) -> SceneClasses:
        """Return the same in another order of the names, that of a model.

        Raises UserError if a class is not in it; classes of `order` that are not here have no number.
        """
        if lost := [name for name in self.names if name not in order]:
            raise UserError(
                f"{where}: {len(lost)} class{'es' * (len(lost) != 1)} that the model does not have:"
                f" {listed(lost)}; it has {listed(order)}"
            )
        places = {name: index for index, name in enumerate(self.names)}
        unused = iter(range(1 << 20, 1 << 21))  # numbers that no file holds
        values = tuple(self.values[places[name]] if name in places else next(unused) for name in order)
        colours = default_palette(len(order))
        palette = tuple(self.palette[places[n]] if n in places else colours[i] for i, n in enumerate(order))
        return replace(self, names=tuple(order), values=values, palette=palette)

    def to_dict(self) -> dict[str, Any]:
        """Return all but the names, as JSON has it; `from_dict` reads it."""
        return {
            "values": list(self.values),
            "palette": [list(colour) for colour in self.palette],
            "no_class": list(self.no_class),
            "no_class_colours": [list(colour) for colour in self.no_class_colours],
            "coloured": self.coloured,
        }

    @staticmethod
    def from_dict(names: Sequence[str], said: Mapping[str, Any]) -> SceneClasses:
        """Read what `to_dict` wrote. Raises ValueError if it did not."""
        numbers = {name: said.get(name, []) for name in ("values", "palette", "no_class", "no_class_colours")}
        try:
            return SceneClasses(
                tuple(names),
                tuple(_number(value) for value in numbers["values"]),
                tuple(_colour(colour) for colour in numbers["palette"]),
                tuple(_number(value) for value in numbers["no_class"]),
                tuple(_colour(colour) for colour in numbers["no_class_colours"]),
                coloured=said.get("coloured") is True,
            )
        except (TypeError, UserError) as error:
            raise ValueError(f"its classes are damaged ({one_line(error)})") from error


def code_of(colour: Sequence[int]) -> int:
    """Return the code of an RGB colour, which is that of no number."""
    red, green, blue = colour
    return _COLOUR | red << 16 | green << 8 | blue


def said_of(code: int) -> str:
    """Return a code in words: a number, or a colour as (128, 64, 0)."""
    if code < _COLOUR:
        return str(code)
    return f"({code >> 16 & 255}, {code >> 8 & 255}, {code & 255})"


def is_colour(code: int) -> bool:
    """Whether a code is that of a colour."""
    return code >= _COLOUR


def read_codes(path: Path, max_pixels: int) -> NDArray[np.int32]:
    """Decode a mask file to codes, (H, W): its numbers, or `code_of` its colours if it has any.

    A palette gives its indices. Grey stored as RGB is numbers. Where alpha is zero the code is `NO_CLASS`.

    Raises BadImageError if it cannot be read, is a JPEG, or holds no whole numbers from 0 to 65535.
    """
    with opened(path, max_pixels) as file:
        if file.about().kind.startswith("JPEG,"):
            raise BadImageError(path, "a mask saved as JPEG, which changes its values: save masks as PNG")
        found = file.read()
        return _codes(path, found)


def _codes(path: Path, found: Image.Image | Values) -> NDArray[np.int32]:
    if isinstance(found, Values):
        numbers, alpha = found.colour, found.alpha
    else:
        if found.mode not in ("1", "L", "P", "LA", "RGB", "RGBA"):
            found = found.convert("RGBA" if found.has_transparency_data else "RGB")
        numbers, alpha = np.asarray(found), None
        numbers = numbers[..., None] if numbers.ndim == 2 else numbers
        if numbers.shape[2] in (2, 4):
            numbers, alpha = numbers[..., :-1], numbers[..., -1]
    if numbers.dtype.kind == "f":
        if not np.array_equal(numbers, np.rint(numbers)):
            raise BadImageError(path, "a mask of fractions or NaN: it must hold a whole number for each pixel")
        numbers = numbers.astype(np.int64)
    if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) <= 65535:
        raise BadImageError(path, f"values from {numbers.min()} to {numbers.max()}: a mask holds 0 to 65535")
    codes = _packed(path, numbers.astype(np.int32))
    if alpha is not None and (alpha == 0).any():
        codes = np.where(alpha == 0, NO_CLASS, codes)
    return codes.astype(np.int32, copy=False)


def _packed(path: Path, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Codes from (H, W, 1 or 3) numbers."""
    if numbers.shape[2] == 1:
        return numbers[..., 0]
    if numbers.shape[2] != 3:
        raise BadImageError(path, f"a mask of {numbers.shape[2]} bands: it must have one, or colours")
    red, green, blue = np.moveaxis(numbers, 2, 0)
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return red
    if numbers.max() > 255:
        raise BadImageError(path, "a mask in colours of more than 8 bits: save it with 8")
    return _COLOUR | red << 16 | green << 8 | blue


def default_palette(count: int) -> tuple[Colour, ...]:
    """Return colours that differ as much as so many can: hues by the golden ratio, in three brightnesses."""
    import colorsys

    found = []
    for index in range(count):
        hue, level = (0.02 + index * 0.6180339887) % 1, (0.95, 0.72, 0.5)[index % 3]
        found.append(tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.75 if index % 2 else 0.55, level)))
    return tuple((int(red), int(green), int(blue)) for red, green, blue in found)


def read_class_file(path: Path, *, ignore: int | None = None, reduce_zero_label: bool = False) -> SceneClasses:
    """Read a classes.json: `{"classes": [name, ...], "palette": [[r, g, b], ...], "ignore": 11}`; or a labelmap.txt.

    "palette" may be left out; with it, masks in these colours are read too. "ignore" is a number, a colour, or a list
    of these. The number of a class in a mask is its place in the list, or what "values" says. A labelmap.txt, as CVAT
    writes it, has a line `name:r,g,b::` for each class.

    ignore: a number that stands for no class, in place of the file's.  reduce_zero_label: 0 is no class, 1 the first.

    Raises UserError, with what is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {shown(path)}: {one_line(error)}") from None
    try:
        said = _label_map(text) if path.suffix.lower() == ".txt" else json.loads(text)
        names = said["classes"]
        if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
            raise ValueError("its classes are no list of names")
        palette = tuple(_colour(colour) for colour in said.get("palette") or ())
        values = tuple(_number(value) for value in said.get("values") or range(len(names)))
        numbers, colours = _ignored(said)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        what = f"{one_line(error)} is missing" if isinstance(error, KeyError) else one_line(error)
        raise UserError(
            f"{shown(path)}: {what}; write it as"
            ' {"classes": ["sky", "road"], "palette": [[70, 130, 180], [128, 64, 128]], "ignore": 255}'
        ) from None
    if palette and len(palette) != len(names):
        raise UserError(f"{shown(path)}: {len(palette)} colours of {len(names)} classes")
    numbers = numbers if ignore is None else (ignore,)
    if reduce_zero_label and not said.get("values"):
        values, numbers = tuple(value + 1 for value in values), (0, *numbers)
    if both := sorted({*values} & {*numbers}):
        raise UserError(f"{shown(path)}: value {both[0]} is a class and no class; take it out of one of them")
    try:
        return SceneClasses(
            tuple(names),
            values,
            palette or default_palette(len(names)),
            numbers,
            tuple(colour for colour in colours if colour not in palette),
            coloured=bool(palette),
        )
    except UserError as error:
        raise UserError(f"{shown(path)}: {error}") from None


def _label_map(text: str) -> dict[str, Any]:
    """A label map of CVAT as `read_class_file` has it."""
    names, palette = [], []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, colour = line.split(":")[:2]
            names.append(name)
            palette.append([int(part) for part in colour.split(",")])
    return {"classes": names, "palette": palette}


def _ignored(said: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[Colour, ...]]:
    """The numbers and the colours that stand for no class."""
    numbers: list[int] = []
    colours: list[Colour] = []
    for key in _IGNORE:
        given = said.get(key)
        if isinstance(given, list) and len(given) == 3 and all(isinstance(part, int) for part in given):
            given = [given]  # one colour
        for each in [] if given is None else given if isinstance(given, list) else [given]:
            if isinstance(each, list):
                colours.append(_colour(each))
            else:
                numbers.append(_number(each))
    return tuple(numbers), tuple(colours)


def _number(said: object) -> int:
    if isinstance(said, bool) or not isinstance(said, int) or not 0 <= said < 1 << 21:
        raise ValueError(f"{shown(str(said))[:60]} is no value of a mask, 0 to 65535")
    return said


def _colour(said: object) -> Colour:
    if (
        not isinstance(said, list | tuple)
        or len(said) != 3
        or not all(isinstance(part, int) and not isinstance(part, bool) and 0 <= part <= 255 for part in said)
    ):
        raise ValueError(f"{shown(str(said))[:60]} is no colour, three numbers from 0 to 255")
    red, green, blue = said
    return red, green, blue
