"""Labels from a table: a CSV file with a column of paths and one of labels."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from convnextv2.data.files.folder import EXTENSIONS, ImageList
from convnextv2.data.labels.categorical import Categorical
from convnextv2.data.labels.labels import LabelSource, WrittenLabels, split_of
from convnextv2.errors import UserError
from convnextv2.text import listed, shown

PATH_COLUMNS = ("path", "file", "filename", "image", "name")
"""Names of the column of paths, in any case; the first one present is taken."""
LABEL_COLUMNS = ("label", "labels", "class", "target")
"""Names of the column of labels, in any case; the first one present is taken."""


def read_label_table(
    source: Path, *, label_separator: str = ";", multi_label: bool = False, group_column: str | None = None
) -> LabelSource:
    """Read the images that a CSV file names, in the order of its rows, by split if it has a column `split`.

    Cells are separated by comma, semicolon or tab, whichever fits the header. Without a header,
    two columns are path and label. Paths are absolute or relative to the file's folder.

    Images have several labels if `multi_label` is set or any cell holds `label_separator`:
    then an empty cell is no label, and the labels of a path on several rows are merged.

    Raises:
        UserError: the file cannot be read or lacks a column, a row does not fit the others,
            an image has no label or is on several rows, or none of the files exists.
    """
    if not label_separator:
        raise UserError("an empty --label-separator: give what separates the labels of a cell, such as ';'")
    table = _Table.read(source, group_column)
    several = multi_label or any(label_separator in cells[table.label] for _, cells in table.rows)
    entries: dict[str, _Entry] = {}
    root = os.path.abspath(source.parent)
    for line, cells in table.rows:
        entry = table.entry(line, cells, label_separator if several else None)
        first = entries.setdefault(os.path.normpath(os.path.join(root, entry.name)), entry)
        if first is not entry:
            first.join(entry, source)
    if not several:
        _check_single(source, entries.values())
    if not any(os.path.exists(source.parent / entry.name) for entry in entries.values()):
        first = next(iter(entries.values())).name
        raise UserError(
            f"none of the {len(entries)} files named in {shown(source)} exists, the first being"
            f" {shown(source.parent / first)}; write paths that are absolute or relative to {shown(source.parent)}"
        )
    parts: dict[str, list[_Entry]] = {}
    for entry in entries.values():
        parts.setdefault(entry.split, []).append(entry)
    notes = [*table.notes]
    if several and not multi_label:
        notes.append(f"images of {shown(source)} may have several labels: '{shown(label_separator)}' separates them")
    bare = sum(not entry.words for entry in entries.values())
    if bare:
        notes.append(
            f"{bare} of {len(entries)} images of {shown(source)} have no label: they count as none of the classes"
        )
    return LabelSource({split: _written(source, part) for split, part in parts.items()}, several, tuple(notes))


@dataclass
class _Entry:
    """One image of a table; `lines` are those that name it."""

    name: str
    words: list[str]
    split: str
    group: str | None
    lines: list[int]

    def join(self, other: _Entry, source: Path) -> None:
        """Merge another row of the same image."""
        if (self.split, self.group) != (other.split, other.group):
            raise UserError(
                f"lines {self.lines[0]} and {other.lines[0]} of {shown(source)} put '{shown(self.name)}' into"
                " different splits or groups: keep one of them"
            )
        self.words += [word for word in other.words if word not in self.words]
        self.lines += other.lines


@dataclass(frozen=True)
class _Table:
    """The rows of a table below its header, and in which column is what."""

    source: Path
    rows: list[tuple[int, list[str]]] = field(repr=False)
    path: int
    label: int
    split: int | None = None
    group: int | None = None
    notes: tuple[str, ...] = ()

    @staticmethod
    def read(source: Path, group_column: str | None) -> _Table:
        text = _text(source)
        delimiter = max(",\t;", key=lambda delimiter: _fits(list(islice(_rows(source, text, delimiter), 50))))
        rows = _even_rows(source, text, delimiter)
        head = rows[0][1]
        names = [cell.casefold() for cell in head]
        paths, labels = _columns(names, PATH_COLUMNS), _columns(names, LABEL_COLUMNS)
        if not paths and not labels and len(head) == 2 and _is_image_name(head[0]) and group_column is None:
            return _Table(source, rows, 0, 1)
        if not paths or not labels:
            raise UserError(
                f"{shown(source)} needs a column of paths ({', '.join(PATH_COLUMNS)}) and one of labels"
                f" ({', '.join(LABEL_COLUMNS)}); its columns are {listed(head)}: rename them in the first line"
            )
        if len(rows) == 1:
            raise UserError(f"{shown(source)} names no images: write one per line below the header")
        group = None
        if group_column is not None:
            if group_column.strip().casefold() not in names:
                raise UserError(
                    f"no column '{shown(group_column)}' in {shown(source)}; its columns are {listed(head)}: give one of"
                    " them as --group-column"
                )
            group = names.index(group_column.strip().casefold())
        notes = [
            f"{what} are taken from column '{shown(head[there[0]])}' of {shown(source)}, not from"
            f" {listed(head[index] for index in there[1:])}"
            for what, there in (("paths", paths), ("labels", labels))
            if len(there) > 1
        ]
        split = names.index("split") if "split" in names else None
        return _Table(source, rows[1:], paths[0], labels[0], split, group, tuple(notes))

    def entry(self, line: int, cells: Sequence[str], separator: str | None) -> _Entry:
        """Return one row; its label is split at `separator` if there is one."""
        name, label = cells[self.path], cells[self.label]
        if not name:
            raise UserError(f"line {line} of {shown(self.source)} has no path: write one, or remove the line")
        words = [word.strip() for word in label.split(separator)] if separator else [label]
        split = ""
        if self.split is not None:
            split = split_of(cells[self.split]) or ""
            if not split:
                raise UserError(
                    f"line {line} of {shown(self.source)} has the split '{shown(cells[self.split])}': write train, val"
                    " or test"
                )
        group = None if self.group is None else cells[self.group]
        if group == "":
            raise UserError(f"line {line} of {shown(self.source)} has no group: write one, unique if it stands alone")
        return _Entry(name, [word for word in dict.fromkeys(words) if word], split, group, [line])


def _check_single(source: Path, entries: Collection[_Entry]) -> None:
    """Raise UserError unless every image has one label and one row."""
    bare = [str(entry.lines[0]) for entry in entries if not entry.words]
    if bare:
        raise UserError(
            f"{len(bare)} images of {shown(source)} have no label (lines {listed(bare, 5)}): write one, remove the"
            " lines, or give --multi-label if images may have none"
        )
    again = [entry for entry in entries if len(entry.lines) > 1]
    if again:
        raise UserError(
            f"{len(again)} images are on several lines of {shown(source)}, the first being '{shown(again[0].name)}'"
            f" (lines {listed(map(str, again[0].lines), 5)}): keep one line per image, or give --multi-label if it has"
            " all of the labels"
        )


def _written(source: Path, entries: Sequence[_Entry]) -> WrittenLabels:
    images = ImageList(source, (entry.name for entry in entries), source.parent)
    groups = Categorical(entry.group for entry in entries if entry.group is not None)
    return WrittenLabels(images, (tuple(entry.words) for entry in entries), groups or None)


def _text(source: Path) -> str:
    try:
        text = source.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {shown(source)}: {error.strerror}; give a folder or a CSV file") from error
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(
            f"{shown(source)} is neither a folder nor a UTF-8 CSV file of paths and labels; give one of them"
        )
    return text


def _even_rows(source: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """All rows, at least one, each with as many cells as the first."""
    rows = list(_rows(source, text, delimiter))
    if not rows:
        raise UserError(f"{shown(source)} is empty: write a header 'path,label' and one image per line")
    width = len(rows[0][1])
    for line, cells in rows:
        if len(cells) != width:
            raise UserError(
                f"line {line} of {shown(source)} has {len(cells)} cells and its first line {width}: put quotation marks"
                f" around a cell that holds {delimiter!r}, or give every line as many"
            )
    return rows


def _rows(source: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells, stripped, of every row that is not blank."""
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


def _fits(rows: Sequence[tuple[int, list[str]]]) -> tuple[bool, bool, bool]:
    """How well a delimiter cuts the first rows: the greater, the better."""
    if not rows:
        return False, False, False
    head = rows[0][1]
    names = [cell.casefold() for cell in head]
    known = bool(_columns(names, PATH_COLUMNS)) and bool(_columns(names, LABEL_COLUMNS))
    even = len(head) > 1 and all(len(cells) == len(head) for _, cells in rows)
    return known, even and _is_image_name(head[0]), even


def _columns(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """Return the positions of the known names among `names`, in the order of `known`."""
    return [names.index(name) for name in known if name in names]


def _is_image_name(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)
