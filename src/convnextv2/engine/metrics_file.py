"""`metrics.jsonl`: one object a line, and going back in it to a checkpoint, with what was found damaged."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from convnextv2.atomic import open_to_append, write_atomically
from convnextv2.text import listed

NAME = "metrics.jsonl"
Mark = tuple[int, str]
"""How many bytes of the file a checkpoint came after, and their SHA-256."""


class MetricsFile:
    """The file of a run, opened for appending; a line is on its way to the disk when `write` returns."""

    def __init__(self, run: Path) -> None:
        self._file = open_to_append(run / NAME)
        content = (run / NAME).read_bytes()
        self._bytes, self._hash = len(content), hashlib.sha256(content)

    def write(self, line: str) -> None:
        """Append one line."""
        self._file.write(line + "\n")
        self._file.flush()
        self._bytes += len(line) + 1
        self._hash.update(f"{line}\n".encode())

    def mark(self) -> Mark:
        """Return the bytes so far and their hash."""
        return self._bytes, self._hash.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def rewind(run: Path, step: int, mark: Mark | None = None) -> str | None:
    """Drop the lines of metrics.jsonl beyond `step`, the one of its end, and a partial one of a killed process.

    mark: what a checkpoint says of the file.

    Returns a line on what is missing or damaged, if anything is; the file as it was is kept then.
    """
    path = run / NAME
    content = path.read_bytes() if path.is_file() else b""
    if mark is not None and len(content) >= mark[0] and hashlib.sha256(content[: mark[0]]).hexdigest() == mark[1]:
        kept, wrong = content[: mark[0]], None
    else:
        kept, damaged = _readable(content, step)
        wrong = _said(content, damaged, step, marked=mark is not None)
    if wrong is not None and content:
        aside = _free(run)
        write_atomically(aside, lambda partial: partial.write_bytes(content))
        wrong += f"; the file as it was is kept as {aside.name}"
    if kept != content:
        write_atomically(path, lambda partial: partial.write_bytes(kept))
    return wrong


def _readable(content: bytes, step: int) -> tuple[bytes, list[int]]:
    """The lines up to a step, and the numbers of those that are no lines of the log; a torn last one is not counted."""
    kept: list[bytes] = []
    damaged: list[int] = []
    *lines, torn = content.split(b"\n")
    for number, line in enumerate([*lines, torn], 1):
        try:
            found = json.loads(line)
            if found["step"] <= step and found["phase"] != "end":
                kept.append(line + b"\n")
        except (ValueError, LookupError, TypeError, RecursionError):
            if number <= len(lines):
                damaged.append(number)
    return b"".join(kept), damaged


def _said(content: bytes, damaged: list[int], step: int, *, marked: bool) -> str | None:
    if damaged:
        lines = f"line{'s' if len(damaged) > 1 else ''} {listed(map(str, damaged))}"
        return f"warning: metrics.jsonl: {len(damaged)} damaged, {lines}, left out of the curves"
    if not marked:
        return None
    if not content:
        return f"warning: metrics.jsonl is lost: the curves begin at step {step + 1}"
    return (
        f"warning: metrics.jsonl is not as the run wrote it up to step {step}: lines are missing or a number was "
        "changed, so the curves may be wrong there; the training is not concerned"
    )


def _free(run: Path) -> Path:
    """A name for the damaged file that is not taken."""
    number = 1
    while os.path.lexists(path := run / f"metrics-damaged-{number}.jsonl"):
        number += 1
    return path
