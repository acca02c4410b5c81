"""Settings as frozen dataclasses, read by the Python call and by the command line; their docstrings are the help."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

from convnextv2.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings: values are converted and checked when they are made.

    Strings become paths and lists become tuples as the fields' types say. Raises UserError for a value that breaks a
    rule.
    """

    def __new__(cls, **given: object) -> Self:
        """Remember which settings were named, even if with their default values."""
        settings = super().__new__(cls)
        object.__setattr__(settings, "_given", frozenset(given))
        return settings

    def __post_init__(self) -> None:
        paths = _path_fields(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in paths and value is not None and not isinstance(value, Path):
                object.__setattr__(self, field.name, Path(value))
            elif isinstance(value, list):  # as JSON has it
                object.__setattr__(self, field.name, tuple(value))
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
    for name in given:
        if name not in settings.names():
            raise UserError(f"{verb} has no setting {name!r}; it has {', '.join(settings.names())}")
    return settings(**given)


T = typing.TypeVar("T", bound=Settings)


@cache
def _path_fields(settings: type[Settings]) -> frozenset[str]:
    """The fields that hold a path and nothing else."""
    hints = typing.get_type_hints(settings)
    return frozenset(name for name, hint in hints.items() if Path in (kinds := _options(hint)) and str not in kinds)


def _options(hint: object) -> tuple[object, ...]:
    return typing.get_args(hint) or (hint,)
