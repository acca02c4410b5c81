"""Long lists of options in groups: the ones that most people need by `--help`, all of them by `--help-all`."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Group, Parameter

from convnextv2.settings import Settings

HELP_ALL = "--help-all"
EPILOGUE = f"{HELP_ALL} shows every option."

show_all = False
"""Whether this command asked for all options; set before a verb's file is imported."""


def grouped(settings: type[Settings], groups: Mapping[str, Sequence[str]], *, basic: Sequence[str]) -> type[Settings]:
    """A settings class whose fields stand in groups in the help.

    groups: title, and the fields in it, in the order of the help; every field must be in one of them.
    basic: the fields that `--help` shows; `--help-all` shows all.
    """
    hints, fields = typing.get_type_hints(settings), {field.name: field for field in dataclasses.fields(settings)}
    body: dict[str, Any] = {"__module__": settings.__module__, "__doc__": settings.__doc__, "__annotations__": {}}
    for place, (title, names) in enumerate(groups.items()):
        group = Group(title, sort_key=place)
        for name in names:
            shown = show_all or name in basic
            parameter = Parameter(group=group, show=None if shown else False, negative_iterable=(), negative_none=())
            body["__annotations__"][name] = Annotated[hints[name], parameter]
            body[name] = fields[name].default
    return dataclass(frozen=True, kw_only=True)(type(settings.__name__, (settings,), body))


RUN_GROUPS: dict[str, tuple[str, ...]] = {
    "Data": ("data", "out", "resume", "auto_resume", "config"),
    "Numbers in the images": ("bands", "channels", "nodata", "stats", "show"),
    "Model": ("init", "model", "image_size", "in_chans", "stem_stride", "depths", "dims", "inflate"),
    "Training": (
        "recipe",
        "epochs",
        "minutes",
        "batch_size",
        "micro_batch",
        "lr",
        "warmup_epochs",
        "weight_decay",
        "clip_grad",
        "seed",
    ),
    "Machine": (
        *("device", "timeout", "precision", "compile", "threads", "workers", "cache"),
        *("max_pixels", "value_range", "max_bad_fraction"),
    ),
    "Checkpoints and logs": ("checkpoint_minutes", "checkpoint_every", "log_every"),
}
"""Groups of the settings that every run has; a task adds its own fields to these, or groups of its own."""

RUN_BASIC = (
    *("data", "out", "resume", "auto_resume", "init", "model", "image_size", "in_chans", "stem_stride"),
    *("recipe", "epochs", "minutes", "batch_size", "lr", "seed", "device"),
)


def run_groups(**more: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """`RUN_GROUPS` with a task's own fields: added to the group of that name, or as a group after Training.

    A keyword is a title with underscores for spaces.
    """
    own = {title.replace("_", " "): tuple(names) for title, names in more.items()}
    found: dict[str, tuple[str, ...]] = {}
    for title, names in RUN_GROUPS.items():
        found[title] = (*names, *own.pop(title, ()))
        if title == "Training":
            found |= {title: names for title, names in own.items() if title not in RUN_GROUPS}
    return found


_FOURS = ("--depths", "--dims")


def separated(tokens: Sequence[str]) -> list[str]:
    """Return the words of a command with the numbers of --depths and --dims apart: 2,2,6,2 as 2 2 6 2."""
    found: list[str] = []
    for token in tokens:
        name, equals, value = token.partition("=")
        if name in _FOURS and equals:
            found += [name, *value.split(",")]
        elif found and found[-1] in _FOURS:
            found += token.split(",")
        else:
            found.append(token)
    return found
