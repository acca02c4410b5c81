"""The text of a file that is handed over as a table: which encoding it is in, or what it is in place of a table."""

from __future__ import annotations

import codecs
import io
import re
import zipfile
from pathlib import Path

from convnextv2.errors import UserError
from convnextv2.text import printable, shown

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_SHEET = "save the sheet as 'CSV UTF-8' and give that file"
_FRAME = "write it as CSV (in pandas: frame.to_csv('labels.csv', index=False)) and give that file"
_ROWS = "write a CSV with the columns path and label"
_UNPACK = "unpack it and give the CSV file inside"
_MAGIC = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook", _SHEET),
    (b"PAR1", "a Parquet file", _FRAME),
    (b"ARROW1", "an Arrow file", _FRAME),
    (b"FEA1", "a Feather file", _FRAME),
    (b"\x89HDF", "an HDF5 file", _FRAME),
    (b"SQLite format 3\0", "an SQLite database", _FRAME),
    (b"\x93NUMPY", "a NumPy array", _ROWS),
    (b"\x80\x02", "a pickle", _FRAME),
    (b"\x80\x03", "a pickle", _FRAME),
    (b"\x80\x04", "a pickle", _FRAME),
    (b"\x80\x05", "a pickle", _FRAME),
    (b"\x1f\x8b", "compressed by gzip", _UNPACK),
    (b"BZh", "compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ\0", "compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"%PDF", "a PDF", _ROWS),
    (b"version https://git-lfs.github.com/", "a Git LFS pointer", "fetch the file itself with `git lfs pull`"),
)


def read_text(source: Path) -> tuple[str, list[str]]:
    """Read a table's file as text; returns it, and notes if it is not UTF-8.

    UTF-16 and UTF-32 are known by their mark (UTF-16 without one by its zero bytes). Other text that is not UTF-8 is
    read as Windows-1252, and the note gives a word of it. Bytes that are not UTF-8 in a file that otherwise is are kept
    as they are (as `os.fsdecode` keeps them): names of files.

    Raises:
        UserError: the file cannot be read, or is no text; what it is is named if it is known.
    """
    try:
        data = source.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {shown(source)}: {error.strerror}; give a folder or a CSV file") from error
    known = _kind(data)
    if known is not None:
        raise UserError(f"{shown(source)} is {known[0]} and not a CSV file of paths and labels: {known[1]}")
    text, notes = _decoded(data, source)
    if text is None or "\0" in text:
        raise UserError(
            f"{shown(source)} is neither a folder nor a UTF-8 CSV file of paths and labels; give one of them"
        )
    start = text.lstrip()[:400].lower()
    if start.startswith(("{", "[")):
        advice = _ROWS if '"confidence"' not in start else "`convnextv2 predict --format csv` writes a table"
        raise UserError(f"{shown(source)} is JSON and not a CSV file of paths and labels: {advice}")
    if start.startswith(("<!doctype", "<html", "<?xml", "<annotation")):
        raise UserError(f"{shown(source)} is a web page or XML and not a CSV file of paths and labels: {_ROWS}")
    return text, notes


def _kind(data: bytes) -> tuple[str, str] | None:
    """What a file is if it is no text, and what to do instead."""
    if data.startswith(b"PK\x03\x04"):
        try:
            names = zipfile.ZipFile(io.BytesIO(data)).namelist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError):  # the last: of a later version of the format
            names = []
        if any(name.startswith("xl/") for name in names):
            return "an Excel workbook", _SHEET
        return ("an OpenDocument sheet", _SHEET) if "content.xml" in names else ("a zip archive", _UNPACK)
    return next(((what, advice) for magic, what, advice in _MAGIC if data.startswith(magic)), None)


def _decoded(data: bytes, source: Path) -> tuple[str | None, list[str]]:
    """The text, None if no encoding is found, and a note on an encoding that had to be guessed."""
    for mark, encoding in (*_BOMS, (b"", _utf16_without_mark(data) or "utf-8")):
        if data.startswith(mark):
            try:
                return data[len(mark) :].decode(encoding), []
            except UnicodeDecodeError:
                if encoding != "utf-8":
                    return None, []
                data = data[len(mark) :]
    raw = data.decode("utf-8", "surrogateescape")
    strange = sum("\udc80" <= character <= "\udcff" for character in raw)
    if any(character > "\x7f" and not "\udc80" <= character <= "\udcff" for character in raw):
        line = next(number for number, line in enumerate(raw.split("\n"), 1) if re.search("[\udc80-\udcff]", line))
        return raw, [f"{strange} bytes of {shown(source)} are not UTF-8 (the first in line {line}): kept as they are"]
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        raise UserError(
            f"{shown(source)} is neither UTF-8 nor Windows-1252 text, and its encoding is not known: save it as"
            " 'CSV UTF-8'"
        ) from None
    found = re.search(r"[^\s,;\"]*[\x80-\uffff][^\s,;\"]*", text)
    example = f", for example '{printable(found[0][:40])}'" if found else ""
    return text, [f"{shown(source)} is not UTF-8: read as Windows-1252{example}; if that looks wrong, save it as UTF-8"]


def _utf16_without_mark(data: bytes) -> str | None:
    """UTF-16's name if every second byte near the start is zero, as it is in mostly English text."""
    start = data[:1000]
    even, odd = start[::2], start[1::2]
    if len(start) < 8 or not (even.count(0) or odd.count(0)):
        return None
    if odd.count(0) > 0.9 * len(odd) and not even.count(0):
        return "utf-16-le"
    return "utf-16-be" if even.count(0) > 0.9 * len(even) and not odd.count(0) else None
