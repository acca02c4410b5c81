"""Names and messages on one printable line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def shown(name: str | Path) -> str:
    """`name` as it can be printed on one line: odd characters and undecodable bytes escaped."""
    text = str(name)
    return text if text.isprintable() else ascii(text)


def listed(names: Iterable[str], limit: int = 10) -> str:
    """The first `limit` names on one line, and how many more there are."""
    every = [shown(name) for name in names]
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more


def encodable(text: str) -> str:
    """`text` with what no console can show, such as file names that are not UTF-8, written as escapes."""
    return text.encode(errors="backslashreplace").decode()


def one_line(error: BaseException, limit: int = 160) -> str:
    """What an error says on one line of at most `limit` characters; its type if it says nothing."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
