"""What a notebook shows of us: results as tables and pictures, and a line of progress that replaces itself."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

_MOST = 8  # pictures that are shown
_MOST_BYTES = 4 * 2**20


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *notes: str) -> str:
    """Return HTML: a table, and a paragraph for each note."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    said = "".join(f"<p>{escape(note)}</p>" for note in notes if note)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{said}"


def pictures(files: Sequence[Path]) -> str:
    """Return HTML: up to eight PNG images, each under its name, and how many more there are."""
    found = []
    for file in files[:_MOST]:
        try:
            data = file.read_bytes()
        except OSError:  # moved or removed meanwhile
            continue
        name = escape(file.name)
        image = (
            f'<img alt="{name}" style="max-width:100%" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        )
        found.append(f"<figure>{image if len(data) <= _MOST_BYTES else ''}<figcaption>{name}</figcaption></figure>")
    more = len(files) - _MOST
    return "".join(found) + (f"<p>and {more} more</p>" if more > 0 else "")


class ProgressLine:
    """A bar and a line of text below a cell, in the place of the one before."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, done: int, total: int, text: str) -> None:
        """Show `done` of `total`, and a text."""
        from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

        shown = HTML(f'<progress value="{done}" max="{total}"></progress> {escape(text)}')
        if self._handle is None:
            self._handle = display(shown, display_id=True)
        else:
            self._handle.update(shown)
