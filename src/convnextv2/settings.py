"""Settings as frozen dataclasses, read by the Python call and by the command line; their docstrings are the help."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import numbers
import operator
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

from convnextv2.errors import UserError
from convnextv2.text import shown


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings: values are converted and checked when they are made.

    Each value is checked by its field's type, and becomes what that says: strings become paths, lists tuples, numpy's
    numbers Python's (`converted`). Raises UserError for a value of another type, and for one that breaks a rule.
    """

    def __new__(cls, **given: object) -> Self:
        """Remember which settings were named, even if with their default values."""
        settings = super().__new__(cls)
        object.__setattr__(settings, "_given", frozenset(given))
        return settings

    def __post_init__(self) -> None:
        hints = _hints(type(self))
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, converted(field.name, getattr(self, field.name), hints[field.name]))
        for holds, message in self.rules():
            if not holds:
                raise UserError(message)

    def rules(self) -> Iterator[tuple[bool, str]]:
        """Yield (whether it holds, what to say if not); a derived class adds its own."""
        yield from ()

    def in_range(
        self, name: str, low: float, high: float, *, low_open: bool = False, high_open: bool = False
    ) -> Iterator[tuple[bool, str]]:
        """Yield the rule that a number, if given, lies in a range; ends count unless open."""
        value = getattr(self, name)
        if value is None:
            return
        above = value > low if low_open else value >= low
        below = value < high if high_open else value <= high
        wanted = [f"more than {low:g}" if low_open else f"{low:g} or more"] if low > -math.inf else []
        if high < math.inf:
            wanted.append(f"below {high:g}" if high_open else f"at most {high:g}")
        elif high_open:
            wanted.append("finite")
        yield above and below, f"--{name.replace('_', '-')} {value}: give {' and '.join(wanted)}"

    @property
    def given(self) -> frozenset[str]:
        """Names of the settings that were passed when this record was made."""
        return self.__dict__["_given"]

    def named(self) -> dict[str, typing.Any]:
        """The settings that were passed when this record was made, by name."""
        return {name: getattr(self, name) for name in self.names() if name in self.given}

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of all settings."""
        return tuple(field.name for field in dataclasses.fields(cls))


def make(settings: type[T], verb: str, given: dict[str, typing.Any]) -> T:
    """Make the settings of a verb from keyword arguments. Raises UserError for a name that it does not have."""
    check_names(verb, given, settings.names())
    return settings(**given)


def check_names(verb: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Check that a verb has settings of these names. Raises UserError for another, with the nearest that it has."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known) or 'none'}"
            raise UserError(f"{verb} has no setting {name!r}; {hint}")


T = typing.TypeVar("T", bound=Settings)
StrPath: typing.TypeAlias = str | os.PathLike[str]


def as_value_range(given: str | Sequence[float] | None) -> tuple[float, float] | None:
    """Return the values that become black and white from `--value-range`: two numbers, or text as "0:4095".

    Raises UserError unless they are finite and the first is the smaller one.
    """
    if given is None:
        return None
    parts: Sequence[typing.Any] = given.split(":") if isinstance(given, str) else given
    try:
        low, high = (float(part) for part in parts)
    except _MISFITS:
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        said = shown(given) if isinstance(given, str) else shown(" ".join(repr(given).split()))
        raise UserError(f"--value-range {said}: give LOW:HIGH, the values that become black and white, as 0:4095")
    return low, high


def converted(name: str, value: object, hint: object) -> typing.Any:
    """Return the value of an argument as its type hint has it.

    Numbers and strings of numpy become Python's; a whole float becomes an int, an int stays one where a float is
    expected; strings become paths; any sequence becomes a tuple, whose length is left to others to check. A value stays
    as it is if the hint is none of bool, int, float, str, Path, Literal, tuple, or a union, except that lists become
    tuples.

    Raises UserError if the value is of another type.
    """
    try:
        return _as(hint, value)
    except _MISFITS:
        raise UserError(f"{argument(name, value)}: give {_wanted(hint)}") from None


def argument(name: str, value: object) -> str:
    """Return an argument and its value, on one line of a message."""
    said = shown(" ".join(repr(value).split()))
    return f"--{name.replace('_', '-')}={said if len(said) <= 80 else said[:77] + '...'}"


@cache
def _hints(settings: type[Settings]) -> dict[str, object]:
    return typing.get_type_hints(settings)


_MISFITS = (TypeError, ValueError, OverflowError)
_UNIONS = (typing.Union, types.UnionType)


def _as(hint: object, value: typing.Any) -> typing.Any:
    """`value` as a type hint has it. Raises one of `_MISFITS` if it is of another type."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        return _as_one_of(parts, value)
    if origin is tuple:
        return _as_tuple(parts, value)
    if hint is Path:
        return value if isinstance(value, Path) else Path(value)
    if origin is Callable and callable(value):
        return value
    if os.PathLike in (hint, origin):
        return value if isinstance(value, os.PathLike) else os.fspath(value)
    if hint is not types.NoneType and (origin or hint) not in _WORDS and origin is not typing.Literal:
        return tuple(value) if isinstance(value, list) else value
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # of numpy, or of torch
        value = value.item()
    if origin is typing.Literal:
        fits = [known for known in parts if isinstance(value, type(known)) and value == known]
        if fits:
            return fits[0]
    elif hint is int and not isinstance(value, bool):
        is_whole = isinstance(value, float) and value.is_integer()
        return int(value) if is_whole else operator.index(typing.cast(typing.SupportsIndex, value))
    elif hint is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        return value if type(value) in (int, float) else float(value)
    elif hint in (bool, str, types.NoneType) and isinstance(value, typing.cast(type, hint)):
        return value
    raise TypeError


def _as_one_of(hints: tuple[object, ...], value: object) -> typing.Any:
    """`value` as the first of several types that take it as it is, else as the first that take it at all."""
    found = []
    for hint in hints:
        with contextlib.suppress(*_MISFITS):
            found.append(_as(hint, value))
    if not found:
        raise TypeError
    return next((one for one in found if one is value), found[0])


def _as_tuple(hints: tuple[object, ...], value: typing.Any) -> tuple[typing.Any, ...]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise TypeError
    if hints[1:] == (...,):
        hints = hints[:1] * len(value)
    if len(hints) != len(value):
        return tuple(value)
    return tuple(_as(hint, each) for hint, each in zip(hints, value, strict=True))


_WORDS: dict[object, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Path: "a path",
    os.PathLike: "a path",
    Callable: "a function",
}


def _wanted(hint: object) -> str:
    """What a type hint takes, in words; None, for a setting that is not given, is left unsaid."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        *most, last = map(str, parts)
        return f"{', '.join(most)} or {last}" if most else last
    if origin in _UNIONS:
        return " or ".join(_wanted(part) for part in parts if part is not types.NoneType)
    if origin is tuple:
        kinds = [_wanted(part) for part in parts if part is not ...]
        if len(set(kinds)) > 1 or not kinds or not kinds[0].startswith("a "):
            return f"({', '.join(kinds)})"
        count = "" if ... in parts else f"{len(kinds)} "
        return f"{count}{kinds[0].removeprefix('a ')}s"
    return _WORDS.get(origin or hint, "None" if hint is types.NoneType else getattr(hint, "__name__", str(hint)))
