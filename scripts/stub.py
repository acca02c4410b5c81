"""Write `src/convnextv2/__init__.pyi`: the public names with their types, for type checkers and editors.

    python scripts/stub.py

The signatures of the verbs come from their settings, as `inspect.signature` shows them. A test holds the
file up to date.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Any

import convnextv2

TARGET = Path(convnextv2.__file__).with_suffix(".pyi")

HEAD = '''"""The public names of convnextv2 with their types; written by `scripts/stub.py`."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from convnextv2._version import __version__ as __version__
from convnextv2.data.files.given import Images
from convnextv2.settings import StrPath
'''


def main() -> None:
    """Write the file."""
    TARGET.write_text(stub(), encoding="utf-8")


def stub() -> str:
    """Return the text of the file, formatted."""
    verbs = {name: value for name in convnextv2.__all__ if is_verb(value := getattr(convnextv2, name))}
    homes = {name: home_of(name) for name in convnextv2.__all__ if name not in verbs}
    lines = [f"from {home} import {name} as {name}" for name, home in homes.items()]
    needed = {"Target": "convnextv2.verbs.convert", "Weights": "convnextv2.weights.model_file"}
    needed["Pictures"] = "convnextv2.tasks.pretrain.reconstruct"
    lines += [f"from {home} import {name}" for name, home in needed.items()]
    written = "\n\n".join(function(name, value) for name, value in verbs.items())
    names = "\n".join(f"    {json.dumps(name)}," for name in convnextv2.__all__)
    return formatted(f"{HEAD}{os.linesep.join(lines)}\n\n__all__ = [\n{names}\n]\n\n{written}\n")


def is_verb(value: Any) -> bool:
    """Whether it is a function whose signature `signatures.verb` made."""
    return inspect.isfunction(value) and hasattr(value, "__signature__")


def home_of(name: str) -> str:
    """Return the module that a public name comes from."""
    home = convnextv2._HOMES[name]  # pyright: ignore[reportAttributeAccessIssue]
    assert hasattr(importlib.import_module(home), name)
    return home


def function(name: str, value: Any) -> str:
    """Return a verb as text: signature and docstring."""
    arguments: list[str] = []
    for parameter in inspect.signature(value).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in arguments:
            arguments.append("*")
        default = "" if parameter.default is parameter.empty else f" = {default_of(parameter.default)}"
        arguments.append(f"{parameter.name}: {annotation(parameter.annotation)}{default}")
    returns = annotation(inspect.signature(value).return_annotation)
    doc = inspect.getdoc(value) or ""
    body = "\n".join(f"    {line}" if line else "" for line in doc.splitlines())
    comma, raw = "," if arguments else "", "r" if "\\" in body else ""
    return f'def {name}({", ".join(arguments)}{comma}) -> {returns}:\n    {raw}"""{body.strip()}\n    """'


def default_of(value: Any) -> str:
    """Return a default as source text; a function as an ellipsis."""
    return "..." if callable(value) else repr(value)


def annotation(hint: Any) -> str:
    """Return a type hint as source text. What is converted is written as what is taken: any path, any sequence."""
    if isinstance(hint, str):
        return hint
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(dict.fromkeys(annotation(part) for part in parts))
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, parts))}]"
    if origin is tuple:
        return f"Sequence[{' | '.join(dict.fromkeys(annotation(part) for part in parts if part is not ...))}]"
    if hint is Path:
        return "StrPath"
    return "None" if hint is types.NoneType else hint.__name__


def formatted(text: str) -> str:
    """Return source text as the formatter has it, with sorted and only needed imports."""
    command = [sys.executable, "-m", "ruff"]
    name = ["--stdin-filename", str(TARGET), "-"]
    for step in (["check", "--quiet", "--fix", "--select", "I,F401"], ["format", "--quiet"]):
        text = subprocess.run([*command, *step, *name], input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    main()
