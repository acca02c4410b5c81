"""The rows of a table: whatever separates its cells, and lists of `path label` lines."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from convnextv2.data.files.folder import EXTENSIONS
from convnextv2.errors import UserError
from convnextv2.text import shown

BLANK = " "
"""The delimiter of a list of `path label` lines: the first blank after the extension of an image."""

_DELIMITERS = ",\t;|" + BLANK
_LOOKED_AT = 1 << 20
"""Characters in which the delimiter is looked for."""
_DECLARED = re.compile(r'"?sep=(.)"?[ ,;\t]*(?=[\r\n]|$)', re.IGNORECASE)
_LISTED = re.compile(rf"(.*?(?:{'|'.join(map(re.escape, EXTENSIONS))}))[ \t]+(.*)", re.IGNORECASE)


Row = tuple[int, list[str]]
"""Line number and cells, without blanks around them."""


def read_rows(source: Path, text: str, knows: Callable[[Sequence[str]], bool]) -> tuple[list[Row], str]:
    """Cut a table's text into cells, with the delimiter that fits best, or that a first line `sep=;` names.

    Returns every row that is not blank, all with as many cells as the first, and the delimiter.
    knows: whether a row is a header with the columns that are needed.

    Raises:
        UserError: there is no row, a row has not as many cells as the first, or a quotation mark is missing.
    """
    declared = _DECLARED.match(text)
    if declared:
        text = text[declared.end() :]  # its end of line stays, so that lines are counted as in the file
    start = text[:_LOOKED_AT]
    delimiter = declared[1] if declared else max(_DELIMITERS, key=lambda each: _fits(source, start, each, knows))
    rows = list(_cut(source, text, delimiter, knows))
    if not rows:
        raise UserError(f"{shown(source)} is empty: write a header 'path,label' and one image per line")
    width = len(rows[0][1])
    for line, cells in rows:
        if len(cells) == width:
            continue
        if delimiter == BLANK:
            raise UserError(
                f"line {line} of {shown(source)} is not a path and a label: write both, as in the first line"
            )
        raise UserError(
            f"line {line} of {shown(source)} has {len(cells)} cells and its first line {width}: put quotation marks"
            f" around a cell that holds {delimiter!r}, or give every line as many"
        )
    return rows, delimiter


def is_image_name(name: str) -> bool:
    """Whether a name ends as that of an image."""
    return name.lower().endswith(EXTENSIONS)


def _fits(source: Path, text: str, delimiter: str, knows: Callable[[Sequence[str]], bool]) -> tuple[bool, bool, bool]:
    """How well a delimiter cuts the first rows: the greater, the better."""
    rows = list(islice(_cut(source, text, delimiter, knows), 50))
    if not rows:
        return False, False, False
    head = rows[0][1]
    as_wide = sum(len(cells) == len(head) for _, cells in rows)
    even = len(head) > 1 and as_wide >= (len(rows) / 2 if delimiter == BLANK else len(rows))
    return knows(head), even and is_image_name(head[0]), even


def _cut(source: Path, text: str, delimiter: str, knows: Callable[[Sequence[str]], bool]) -> Iterator[Row]:
    if delimiter == BLANK:
        yield from _listed(text, knows)
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(
            f"line {reader.line_num} of {shown(source)} cannot be read ({error}): is a quotation mark missing?"
        ) from error


def _listed(text: str, knows: Callable[[Sequence[str]], bool]) -> Iterator[Row]:
    """Rows of `path label` lines, which may have a header; lines that begin with # are skipped."""
    is_first = True
    for number, line in enumerate(io.StringIO(text), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = _LISTED.fullmatch(line)
        cells = [cell.strip() for cell in found.groups()] if found else [line]
        if is_first and found is None and len(line.split()) == 2 and knows(line.split()):
            cells = line.split()
        is_first = False
        yield number, cells
