"""JSON that carries a hash of its own content, and JSON read strictly: what is odd is an error, never a guess."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NoReturn

KEY = "seal"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object for JSON with the hash of the rest as its first entry; what JSON does not know becomes text."""
    rest = json.loads(json.dumps({name: value for name, value in content.items() if name != KEY}, default=str))
    return {KEY: _hash(rest), **rest}


def holds(content: Mapping[str, Any]) -> bool:
    """Whether a parsed object is what was sealed; False if it has no seal."""
    return content.get(KEY) == _hash({name: value for name, value in content.items() if name != KEY})


def parse(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises ValueError if it is no JSON, nests too deep, has NaN or infinite numbers, which JSON has not, or an object
    with two entries of one name.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("it nests too deep") from None


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"it has {twice[:40]!r} twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{digits[:40]} is too large")
    return value
