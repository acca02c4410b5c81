"""Signatures of the verbs: each setting is an argument with its type, its default and its text.

A verb takes its settings as `**settings`, of one record (`settings.Settings`); written out, every verb would repeat the
types and the defaults of fifty. `scripts/stub.py` writes the same signatures for type checkers, `__init__.pyi`.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import typing
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from convnextv2.errors import spelled_for_python
from convnextv2.settings import Settings, converted

F = TypeVar("F", bound=Callable[..., Any])


def verb(settings: type[Settings] | None = None, *, unchecked: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Decorate a verb: check its arguments by their type hints, and show its settings as arguments of their own.

    settings: what the function takes as `**settings`; names and rules it checks itself.  unchecked: arguments whose
    types it checks itself.

    `inspect.signature`, `help` and completion show the settings after the other arguments, and the docstring gets a
    line for each. A call raises UserError for an argument of another type; see `settings.converted`.
    """

    def decorate(function: F) -> F:
        own = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                bound = own.bind(*args, **kwargs)
            except TypeError:
                return function(*args, **kwargs)  # which says what is missing, as Python does
            hints = _hints(function)
            for name, value in bound.arguments.items():
                parameter = own.parameters[name]
                if parameter.kind is parameter.VAR_POSITIONAL:
                    bound.arguments[name] = tuple(converted(name, each, hints[name]) for each in value)
                elif parameter.kind is parameter.VAR_KEYWORD:
                    bound.arguments[name] = _converted_settings(settings, value)
                elif name not in unchecked:
                    bound.arguments[name] = converted(name, value, hints[name])
            return function(*bound.args, **bound.kwargs)

        if settings is not None:
            call.__signature__ = _signature(own, settings)  # pyright: ignore[reportAttributeAccessIssue]
            call.__doc__ = f"{inspect.getdoc(function)}\n\nSettings:\n{_described(settings, set(own.parameters))}"
        return typing.cast(F, call)

    return decorate


def texts(settings: type[Settings]) -> dict[str, str]:
    """Return what the docstring of each setting says, on one line."""
    found: dict[str, str] = {}
    for each in reversed(settings.__mro__):
        if not issubclass(each, Settings):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return found


@cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(function)


def _converted_settings(settings: type[Settings] | None, given: dict[str, Any]) -> dict[str, Any]:
    hints = {} if settings is None else _settings_hints(settings)
    return {name: converted(name, value, hints[name]) if name in hints else value for name, value in given.items()}


@cache
def _settings_hints(settings: type[Settings]) -> dict[str, Any]:
    return typing.get_type_hints(settings)


def _signature(own: inspect.Signature, settings: type[Settings]) -> inspect.Signature:
    hints = _settings_hints(settings)
    first = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
    names = [name for name in settings.names() if name not in own.parameters]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(settings, name), annotation=hints[name])
        for name in names
    ]
    return own.replace(parameters=[*first, *more])


def _described(settings: type[Settings], known: set[str]) -> str:
    said = texts(settings)
    lines = (f"{name}: {spelled_for_python(said[name])}" for name in settings.names() if name not in known)
    return "\n".join(textwrap.fill(line, 116, initial_indent="    ", subsequent_indent="        ") for line in lines)
