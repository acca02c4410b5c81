"""Text that others wrote (names of files, labels, messages), made safe for a terminal, a log and a table."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

# Control characters of C0 and C1, line and paragraph separators, overrides of the direction of writing, and what
# stands for a byte that is not UTF-8 (a lone surrogate).
_HARMFUL = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_HARMFUL_CHARACTER = re.compile(f"[{_HARMFUL}]")


def shown(name: str | Path) -> str:
    """`name` as it can be printed on one line: odd characters and undecodable bytes escaped."""
    text = str(name)
    return text if text.isprintable() else ascii(text)


def listed(names: Iterable[str], limit: int = 10) -> str:
    """The first `limit` names on one line, and how many more there are."""
    every = [shown(name) for name in names]
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more


def printable(text: str) -> str:
    """`text` as one line that does nothing to a terminal or a log: what could is written as Python's escapes."""
    return _HARMFUL_CHARACTER.sub(lambda found: ascii(found[0])[1:-1], text)


def printable_lines(text: str) -> str:
    """The same for text of several lines, which stay."""
    return "\n".join(map(printable, text.split("\n")))


def one_line(error: BaseException, limit: int = 160) -> str:
    """What an error says on one line of at most `limit` characters; its type if it says nothing."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def composed(name: str) -> str:
    """`name` in Unicode's composed form, NFC: two spellings of it that look the same are equal in this form."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def json_line(record: object, default: Callable[[Any], Any] | None = None) -> str:
    """`record` as one line of JSON in ASCII, with no control character in it.  default: see `json.dumps`."""
    return json.dumps(record, default=default).replace("\x7f", "\\u007f")


# --- cells of a CSV -----------------------------------------------------------------------------------------------
# Two layers, each of which can be undone. A name with harmful characters, or with blanks at an end, is written as a
# shell quotes it, $'a\x1b.png'; so it can be pasted into one. A cell that a spreadsheet would take for a formula gets
# an apostrophe in front, as spreadsheets themselves have it; so does one that would be mistaken for such a cell.

_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", "'": "\\'"}
_CHARACTERS = {escape: character for character, escape in _ESCAPES.items()}
_ESCAPE = re.compile(r"\\(?:[ntr\\']|x[0-9a-f]{2}|u[0-9a-f]{4})")
_QUOTED = re.compile(rf"\$'((?:[^'\\]|{_ESCAPE.pattern})*)'", re.DOTALL)

_STARTS_FORMULA = "=+\\-@\uff1d\uff0b\uff0d\uff20"  # the last four: their full-width forms
_FORMULA = re.compile(f"[{_STARTS_FORMULA}\t\r]")
_MARKED = re.compile(rf"'+(?:[{_STARTS_FORMULA}]|\$')")
_ONE_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_NUMBERS = re.compile(f"{_ONE_NUMBER}(?:;{_ONE_NUMBER})*")


def quoted(text: str, also: str = "") -> str:
    """`text`, or if that holds harmful characters or blanks at an end, as a shell quotes it: `$'a\\x1b.png'`.

    A byte of a file's name that is not UTF-8 is `\\xNN`, as in a shell.  also: more characters to write as escapes.
    `unquoted` gives the very same text back.
    """
    if text == text.strip() and not re.search(f"[{_HARMFUL}{also}]", text) and not _QUOTED.fullmatch(text):
        return text
    return "$'" + re.sub(rf"[{_HARMFUL}\\'{also}]", lambda found: _escape(found[0]), text) + "'"


def unquoted(text: str) -> str:
    """Return what `quoted` was given."""
    found = _QUOTED.fullmatch(text)
    return text if found is None else _ESCAPE.sub(lambda escape: _character(escape[0]), found[1])


def csv_cell(text: str) -> str:
    """Return a cell of a CSV that is harmless in a terminal, and in a spreadsheet.

    One that begins with =, +, -, @, a tab or a carriage return has an apostrophe in front, unless it is a number.
    `from_csv_cell` gives the very same text back.
    """
    return _marked(quoted(text), text)


def csv_labels(labels: Sequence[str]) -> str:
    """The same for the labels of an image, separated by semicolons; `labels_from_csv_cell` gives them back."""
    return _marked(";".join(quoted(label, also=";") for label in labels), "".join(labels[:1]))


def from_csv_cell(cell: str) -> str:
    """Return the text of a cell that `csv_cell` wrote. Cells that others wrote are returned as they are."""
    return unquoted(_unmarked(cell))


def labels_from_csv_cell(cell: str, separator: str = ";") -> list[str]:
    """Return the labels of a cell that `csv_labels` or others wrote, without blanks around them; at least one text."""
    return [unquoted(part.strip()) for part in _unmarked(cell).split(separator)]


def _marked(cell: str, text: str) -> str:
    """A cell with an apostrophe in front if it begins as a formula does, or would be taken for one with it."""
    is_formula = _FORMULA.match(text) and not _NUMBERS.fullmatch(cell)
    return f"'{cell}" if is_formula or _MARKED.match(cell) else cell


def _unmarked(cell: str) -> str:
    return cell[1:] if _MARKED.match(cell) else cell


def _escape(character: str) -> str:
    code = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8, see os.fsdecode
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def _character(escape: str) -> str:
    if escape in _CHARACTERS:
        return _CHARACTERS[escape]
    code = int(escape[2:], 16)
    return chr(code + 0xDC00 if escape[1] == "x" and code >= 0x80 else code)
